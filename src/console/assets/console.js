// Keeps an open page up to date: when the server says that something changed, the page is fetched again and its content replaced.
// Without this script every page works as it is.
"use strict";
(() => {
  const main = document.querySelector("main[data-live]");
  const button = document.getElementById("live");
  if (!main || !button || !window.EventSource) return;
  let paused = false;
  let fetching = false;

  const typing = () => {
    const at = document.activeElement;
    return at && main.contains(at) && at.matches("input, select, textarea");
  };

  // Where the keyboard is, as far as the new content can be expected to have it, too.
  const place = (element) => {
    if (!element || !main.contains(element)) return null;
    const href = element.getAttribute("href");
    const name = element.getAttribute("aria-label");
    return [...main.querySelectorAll(element.tagName)]
      .filter((other) => other.getAttribute("href") === href && other.getAttribute("aria-label") === name)
      .indexOf(element);
  };

  const refresh = async () => {
    if (paused || fetching || document.hidden || typing()) return;
    fetching = true;
    try {
      const answer = await fetch(location.href, { headers: { accept: "text/html" }, credentials: "same-origin" });
      if (answer.status === 401) { location.reload(); return; }
      if (!answer.ok || paused || typing()) return;
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").querySelector("main");
      if (!fresh || fresh.innerHTML === main.innerHTML) return;
      const at = document.activeElement;
      const [where, tag] = [place(at), at && at.tagName];
      const [href, name] = [at && at.getAttribute("href"), at && at.getAttribute("aria-label")];
      const scrolled = [...main.querySelectorAll(".scroll")].map((box) => box.scrollLeft);
      const open = [...main.querySelectorAll("details")].map((box) => box.open);
      main.replaceChildren(...fresh.childNodes);
      main.querySelectorAll(".scroll").forEach((box, n) => { box.scrollLeft = scrolled[n] || 0; });
      main.querySelectorAll("details").forEach((box, n) => { box.open = open[n] || false; });
      if (where !== null && where >= 0) {
        const same = [...main.querySelectorAll(tag)]
          .filter((other) => other.getAttribute("href") === href && other.getAttribute("aria-label") === name)[where];
        if (same) same.focus({ preventScroll: true });
      }
    } catch (fault) {
      // The server is away; the event source comes back by itself, and with it the next page.
    } finally {
      fetching = false;
    }
  };

  const source = new EventSource("/live?every=" + encodeURIComponent(main.dataset.live));
  source.addEventListener("changed", refresh);
  button.hidden = false;
  button.addEventListener("click", () => {
    paused = !paused;
    button.textContent = paused ? "Resume updates" : "Pause updates";
    if (!paused) refresh();
  });
})();
