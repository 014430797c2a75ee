// Looks at every page of the console as people do. Started by tests/console/browser.rs with the console's address and two tokens.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";

const require = createRequire(`${process.env.CONSOLE_MODULES}/`);
const { chromium } = require("playwright-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const { CONSOLE_URL, FINANCE_TOKEN, READER_TOKEN, CHROMIUM, SCREENSHOT } = process.env;
const pages = ["/market", "/machines", "/moves", "/pods", "/pods/ml/chat-0", "/savings", "/plans", "/anomalies", "/trust", "/sql/savings"];
const faults = [];
const expect = (holds, sentence) => { if (!holds) faults.push(sentence); };

const browser = await chromium.launch({ executablePath: CHROMIUM, args: ["--no-sandbox", "--disable-dev-shm-usage"] });

// A window whose console says nothing: what the policy forbids would be said there.
const open = async (options) => {
  const context = await browser.newContext(options);
  const page = await context.newPage();
  page.on("console", (said) => { if (said.type() === "error" && !said.text().includes("401")) faults.push(`${page.url()} says: ${said.text()}`); });
  page.on("pageerror", (fault) => faults.push(`${page.url()} fails: ${fault}`));
  return page;
};

const signIn = async (page, token) => {
  await page.goto(`${CONSOLE_URL}/market`);
  await page.focus("#token");
  await page.keyboard.type(token);
  await page.keyboard.press("Enter");
  await page.waitForURL(`${CONSOLE_URL}/market`);
  await page.waitForSelector("nav[aria-label=Pages]");
};

const accessible = async (page, what) => {
  await page.evaluate(axe);
  const found = await page.evaluate(() => window.axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] }));
  for (const rule of found.violations) faults.push(`${what}: ${rule.id}: ${rule.help}: ${rule.nodes.slice(0, 3).map((node) => node.html).join(" | ")}`);
  return found.passes.length;
};

let checked = 0;
for (const colorScheme of ["light", "dark"]) {
  for (const width of [1280, 360]) {
    const page = await open({ colorScheme, viewport: { width, height: 800 } });
    await page.goto(`${CONSOLE_URL}/market`);
    await accessible(page, `sign-in, ${colorScheme}, ${width}`);
    await signIn(page, FINANCE_TOKEN);
    for (const path of pages) {
      const what = `${path}, ${colorScheme}, ${width} px`;
      const answer = await page.goto(CONSOLE_URL + path);
      expect(answer.status() === 200, `${what}: ${answer.status()}`);
      const passes = await accessible(page, what);
      expect(passes > 15, `${what}: axe-core checked next to nothing (${passes})`);
      const over = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
      expect(over <= 0, `${what}: the page is ${over} px wider than the screen`);
      checked += 1;
    }
    await page.context().close();
  }
}

// The keyboard alone: the first stop skips the navigation, every control is reached in order, and each shows where the focus is.
{
  const page = await open({ viewport: { width: 1280, height: 800 } });
  await signIn(page, READER_TOKEN);
  for (const path of ["/market", "/machines", "/savings", "/pods/ml/chat-0"]) {
    await page.goto(CONSOLE_URL + path);
    await page.click("#live");
    await page.evaluate(() => document.activeElement.blur());
    await page.goto(CONSOLE_URL + path);
    await page.keyboard.press("Tab");
    expect(await page.evaluate(() => document.activeElement.matches(".skip")), `${path}: the first stop is not the skip link`);
    const all = await page.evaluate(() => [...document.querySelectorAll("a, button, input, select, summary, [tabindex='0']")].filter((e) => e.checkVisibility()).length);
    const reached = new Set();
    for (let n = 0; n < all + 5; n += 1) {
      const stop = await page.evaluate(() => {
        const at = document.activeElement;
        if (at === document.body) return null;
        const outline = getComputedStyle(at);
        return { n: [...document.querySelectorAll("*")].indexOf(at), shown: outline.outlineStyle !== "none" && parseFloat(outline.outlineWidth) >= 2, html: at.outerHTML.slice(0, 80) };
      });
      if (stop === null) break;
      expect(stop.shown, `${path}: no focus is seen on ${stop.html}`);
      reached.add(stop.n);
      await page.keyboard.press("Tab");
    }
    expect(reached.size === all, `${path}: the keyboard reaches ${reached.size} of ${all} controls`);
  }
  await page.goto(`${CONSOLE_URL}/market`);
  await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  expect(await page.evaluate(() => document.activeElement.id === "content"), "the skip link does not lead to the content");
  await page.context().close();
}

// Without JavaScript: the same pages, forms included.
{
  const page = await open({ javaScriptEnabled: false });
  await signIn(page, FINANCE_TOKEN);
  for (const path of pages) {
    await page.goto(CONSOLE_URL + path);
    expect((await page.locator("main").innerText()).length > 100, `${path} has no content without JavaScript`);
    expect(await page.locator("#live").isHidden().catch(() => true), `${path} offers what needs JavaScript`);
  }
  await page.goto(`${CONSOLE_URL}/machines`);
  await page.fill("input[name=q]", "lt-web");
  await page.click("main form button");
  expect((await page.locator("tbody th").allInnerTexts()).includes("lt-web-1"), "the filter does not work without JavaScript");
  await page.click("header form button");
  await page.waitForSelector("#token");
  await page.goto(`${CONSOLE_URL}/market`);
  expect(await page.locator("#token").count() === 1, "signing out does not end it");
  await page.context().close();
}

// An open page keeps itself up to date, and stops when it is asked to.
{
  const page = await open({});
  await signIn(page, READER_TOKEN);
  await page.goto(`${CONSOLE_URL}/moves`);
  const before = await page.locator("main").innerText();
  await page.waitForFunction((text) => document.querySelector("main").innerText !== text, before, { timeout: 20_000 });
  await page.click("#live");
  expect(await page.locator("#live").innerText() === "Resume updates", "updates cannot be paused");
  const paused = await page.locator("main").innerText();
  await page.waitForTimeout(6_000);
  expect(await page.locator("main").innerText() === paused, "a paused page changes");
  await page.context().close();
}

if (SCREENSHOT) {
  const page = await open({ viewport: { width: 1000, height: 760 } });
  await signIn(page, FINANCE_TOKEN);
  await page.goto(`${CONSOLE_URL}/savings`);
  await page.screenshot({ path: SCREENSHOT });
}

await browser.close();
for (const fault of [...new Set(faults)]) console.error(`FAULT ${fault}`);
console.log(`${checked} looks at ${pages.length} pages by axe-core, ${faults.length} faults`);
process.exit(faults.length ? 1 : 0);
