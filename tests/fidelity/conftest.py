"""Starts one simulator per test module and gives clients that know nothing of it but its address."""

import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request

import boto3
import pytest
from botocore.config import Config


class Simulator:
    def __init__(self, url):
        self.url = url

    def client(self, service, region="us-east-1", key="test", retries=1):
        return boto3.client(
            service, region_name=region, endpoint_url=self.url, aws_access_key_id=key, aws_secret_access_key="key-of-fidelity-8f21",
            config=Config(retries={"total_max_attempts": retries, "mode": "standard"}, read_timeout=30),
        )

    def http(self, method, path, body=None, headers=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data, method=method, headers=headers or {})
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def order(self, what, **fields):
        status, text = self.http("POST", f"/_sim/{what}", fields)
        assert status == 200, text
        return json.loads(text)

    def state(self):
        return json.loads(self.http("GET", "/_sim/state")[1])

    def bill(self):
        return json.loads(self.http("GET", "/_sim/bill")[1])

    def instance(self, instance_id):
        return next(i for i in self.state()["instances"] if i["instance_id"] == instance_id)


@pytest.fixture
def simulator(request):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    arguments = getattr(request, "param", ["--boot-ms", "50", "--visibility-lag-ms", "0", "--no-throttling"])
    process = subprocess.Popen([os.environ["LOWTIDE_EC2"], "--port", str(port), *arguments], stderr=subprocess.PIPE)
    simulator = Simulator(f"http://127.0.0.1:{port}")
    for _ in range(200):
        try:
            simulator.state()
            break
        except (urllib.error.URLError, ConnectionError):
            assert process.poll() is None, process.stderr.read().decode()
            time.sleep(0.02)
    yield simulator
    process.terminate()
    process.wait(10)
