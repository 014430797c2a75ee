"""AWS's own Python SDK, one call a line: reads {"region", "service", "call", "with"} as JSON, writes the answer or {"error": code} as JSON."""
import json
import sys

import boto3
import botocore

clients = {}


def answer(line):
    asked = json.loads(line)
    key = (asked["service"], asked["region"])
    if key not in clients:
        clients[key] = boto3.client(
            key[0], region_name=key[1], endpoint_url=sys.argv[1], aws_access_key_id="test", aws_secret_access_key="key-of-moto-40c7"
        )
    try:
        said = getattr(clients[key], asked["call"])(**asked["with"])
    except botocore.exceptions.ClientError as fault:
        return {"error": fault.response["Error"]["Code"]}
    said.pop("ResponseMetadata", None)
    return said


for line in sys.stdin:
    print(json.dumps(answer(line), default=str), flush=True)
