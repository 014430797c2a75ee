#!/usr/bin/env python3
"""A real Alertmanager with the example's configuration delivers one alert of each kind to a receiver that records it, and keeps back what
follows from another. Only the addresses of Slack and PagerDuty and the waiting times are changed."""

import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HERE = os.path.dirname(os.path.abspath(__file__))
RECORDED: list[tuple[str, str]] = []


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        RECORDED.append((self.path, body))
        self.send_response(202 if "pagerduty" in self.path else 200)
        self.end_headers()
        self.wfile.write(b'{"status":"success"}' if "pagerduty" in self.path else b"ok")

    def log_message(self, *_):
        pass


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def configuration(folder: str, port: int) -> str:
    """The example's text with local addresses and short waits."""
    with open(os.path.join(HERE, "../../examples/alertmanager/alertmanager.yaml")) as file:
        text = file.read()
    for name in ("pagerduty-integrity", "pagerduty-capacity"):
        with open(os.path.join(folder, name), "w") as key:
            key.write(name.encode().hex()[:32].ljust(32, "0"))
    parts = re.split(r"(?m)^(?=  - name: )", text)
    for n, part in enumerate(parts):
        name = part.split("- name: ")[1].split()[0] if part.startswith("  - name: ") else None
        if name and "slack" in name:
            address = os.path.join(folder, name)
            with open(address, "w") as file:
                file.write(f"http://127.0.0.1:{port}/{name}")
            parts[n] = part.replace("/etc/alertmanager/secrets/slack-url", address)
        elif name:
            key = "integrity" if "integrity" in name else "capacity"
            part = part.replace(f"/etc/alertmanager/secrets/pagerduty-{key}", os.path.join(folder, f"pagerduty-{key}"))
            parts[n] = part.replace("      - routing_key_file", f"      - url: http://127.0.0.1:{port}/{name}\n        routing_key_file")
    return "".join(parts).replace("group_wait: 30s", "group_wait: 1s").replace("group_interval: 5m", "group_interval: 2s")


def alert(name: str, severity: str, area: str, **labels: str) -> dict:
    labels = {"alertname": name, "severity": severity, "area": area, "cluster": "c", **labels}
    return {"labels": labels, "annotations": {"summary": name, "description": name, "runbook_url": "https://r", "dashboard_url": "https://d"}}


def main() -> int:
    program = os.path.join(sys.argv[1], "alertmanager")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        config = os.path.join(folder, "alertmanager.yaml")
        with open(config, "w") as file:
            file.write(configuration(folder, server.server_port))
        flags = [f"--config.file={config}", f"--storage.path={folder}/data", f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address="]
        with open(os.path.join(folder, "log"), "w+") as log:
            process = subprocess.Popen([program, *flags], stdout=log, stderr=log)
            try:
                return play(port)
            except Exception:
                log.flush(); log.seek(0)
                print(log.read()[-3000:])
                raise
            finally:
                process.terminate()
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    process.kill()


def post(port: int, alerts: list[dict]) -> None:
    data = json.dumps(alerts).encode()
    until = time.time() + 30
    while time.time() < until:
        try:
            request = urllib.request.Request(f"http://127.0.0.1:{port}/api/v2/alerts", data, {"Content-Type": "application/json"})
            urllib.request.urlopen(request, timeout=5).close()
            return
        except (OSError, urllib.error.URLError):
            time.sleep(0.2)
    raise RuntimeError("Alertmanager does not answer")


def play(port: int) -> int:
    wanted = {
        "LowtideCostAnomaly": "/finance-slack",
        "LowtideInvariantBroken": "/integrity-pagerduty",
        "LowtideNoLeader": "/capacity-pagerduty",
        "LowtideSealOld": "/platform-slack",
    }
    post(port, [alert("LowtideNoLeader", "critical", "capacity")])
    time.sleep(0.5)
    # Without a leader the pods wait, and no alert of its own reports that. The others are of another cluster: nothing holds them back.
    other = {"cluster": "d"}
    post(port, [
        alert("LowtidePodsWaiting", "warning", "capacity"),
        alert("LowtideCostAnomaly", "warning", "finance", team="ml", service="search", cause="price", **other),
        alert("LowtideInvariantBroken", "critical", "integrity", invariant="INV-2", **other),
        alert("LowtideSealOld", "warning", "integrity", **other),
    ])
    until = time.time() + 30
    found = {}
    while time.time() < until and set(found) != set(wanted):
        found = {name: path for path, body in list(RECORDED) for name in wanted if name in body}
        time.sleep(0.2)
    time.sleep(3)
    assert found == wanted, f"delivered {found}, expected {wanted}"
    assert not any("LowtidePodsWaiting" in body for _, body in RECORDED), "delivered although there is no leader"
    print("delivered:", ", ".join(f"{name} to {path[1:]}" for name, path in sorted(found.items())), "; kept back: LowtidePodsWaiting")
    return 0


if __name__ == "__main__":
    sys.exit(main())
