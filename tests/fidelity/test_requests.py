"""Every request that the operator's AWS adapter made in the test suite, held against AWS's own service models: names, required parameters,
types, enumerations, lengths and patterns. The EC2 simulator records them where LOWTIDE_RECORD_REQUESTS names a folder."""

import collections
import json
import os
import pathlib
import re
from datetime import datetime
from urllib.parse import parse_qsl

import botocore.session
import pytest
from botocore.validate import ParamValidator

# What the operator calls: a suite that misses one of these did not try it.
CALLED = {
    "ec2": {
        "CreateFleet", "CreateLaunchTemplate", "DescribeAvailabilityZones", "DescribeCapacityReservations", "DescribeInstances", "DescribeInstanceStatus",
        "DescribeInstanceTypeOfferings", "DescribeInstanceTypes", "DescribeLaunchTemplates", "DescribeSpotInstanceRequests",
        "DescribeSpotPriceHistory", "DescribeSubnets", "GetSpotPlacementScores", "TerminateInstances",
    },
    "sqs": {"ReceiveMessage", "DeleteMessage", "GetQueueUrl"},
    "pricing": {"GetProducts"},
    "servicequotas": {"GetServiceQuota"},
}
# Enumerations that AWS adds to between two versions of a model.
GROWING = {"InstanceType"}
# The scope of a signature, and the model's name where it differs.
MODELS = {"servicequotas": "service-quotas"}


def requests():
    folder = os.environ.get("LOWTIDE_RECORD_REQUESTS")
    if not folder:
        pytest.skip("LOWTIDE_RECORD_REQUESTS names no folder: run the Rust tests with it first, as scripts/test.sh does")
    for file in sorted(pathlib.Path(folder).glob("*.jsonl")):
        for line in file.read_text().splitlines():
            yield json.loads(line)


def nested(body):
    """`A.1.B=x` as {"A": {"1": {"B": "x"}}}; a name given twice is a mistake."""
    tree = {}
    for key, value in parse_qsl(body, keep_blank_values=True):
        *path, last = key.split(".")
        at = tree
        for part in path:
            at = at.setdefault(part, {})
            assert isinstance(at, dict), f"{key} stands below a value"
        assert last not in at, f"{key} is given twice"
        at[last] = value
    return tree


def serialized_name(name, shape):
    """As botocore's EC2Serializer names a member."""
    given = shape.serialization.get("queryName")
    if given:
        return given
    location = shape.serialization.get("name", name)
    return location[0].upper() + location[1:]


def typed(tree, shape, path):
    """The parameters that a query string stands for, by the model."""
    if shape.type_name == "structure":
        assert isinstance(tree, dict), f"{path} is a structure, and {tree!r} was sent"
        members = {serialized_name(name, member): (name, member) for name, member in shape.members.items()}
        unknown = sorted(set(tree) - set(members))
        assert not unknown, f"{path} has no parameter {unknown}; it has {sorted(members)}"
        return {members[key][0]: typed(value, members[key][1], f"{path}.{key}") for key, value in tree.items()}
    if shape.type_name == "list":
        assert isinstance(tree, dict) and sorted(map(int, tree)) == list(range(1, len(tree) + 1)), f"{path} is not a list from 1 on: {tree!r}"
        return [typed(tree[str(i)], shape.member, f"{path}.{i}") for i in range(1, len(tree) + 1)]
    assert isinstance(tree, str), f"{path} is a {shape.type_name}, and {tree!r} was sent"
    if shape.type_name == "boolean":
        assert tree in ("true", "false"), f"{path} is a boolean, and {tree!r} was sent"
        return tree == "true"
    if shape.type_name in ("integer", "long"):
        return int(tree)
    if shape.type_name in ("double", "float"):
        return float(tree)
    if shape.type_name == "timestamp":
        return datetime.fromisoformat(tree)
    return tree


def faults(value, shape, path):
    """What botocore's own validator leaves to the service."""
    limits = shape.metadata
    if shape.type_name == "structure":
        for name, member in shape.members.items():
            if name in value:
                yield from faults(value[name], member, f"{path}.{name}")
    elif shape.type_name == "list":
        if len(value) > limits.get("max", len(value)):
            yield f"{path} has {len(value)} entries; at most {limits['max']} are allowed"
        for number, entry in enumerate(value):
            yield from faults(entry, shape.member, f"{path}[{number}]")
    elif shape.type_name == "string":
        if shape.enum and shape.name not in GROWING and value not in shape.enum:
            yield f"{path} is {value!r}; {len(shape.enum)} others are allowed, as {', '.join(shape.enum[:5])}"
        if limits.get("pattern") and not re.search(python_pattern(limits["pattern"]), value):
            yield f"{path} is {value!r}; {limits['pattern']} is asked for"
        if len(value) > limits.get("max", len(value)):
            yield f"{path} has {len(value)} characters; at most {limits['max']} are allowed"
    elif shape.type_name in ("integer", "long", "double", "float") and value > limits.get("max", value):
        yield f"{path} is {value}; at most {limits['max']} is allowed"


def python_pattern(pattern):
    """Java's names of character classes, in Python."""
    return pattern.replace(r"\p{Alnum}", "A-Za-z0-9").replace(r"\p{Alpha}", "A-Za-z").replace(r"\p{Digit}", "0-9")


@pytest.fixture(scope="module")
def models():
    session = botocore.session.get_session()
    loaded = {}

    def model(service):
        if service not in loaded:
            loaded[service] = session.get_service_model(MODELS.get(service, service))
        return loaded[service]

    return model


def check(models, request):
    """Everything that AWS's model of the service says against a request."""
    operations = models(request["service"])
    assert request["action"] in operations.operation_names, f"{request['service']} has no action {request['action']}"
    shape = operations.operation_model(request["action"]).input_shape
    if request["service"] in ("ec2", "sts"):
        tree = nested(request["body"])
        assert tree.pop("Action") == request["action"]
        version = tree.pop("Version")
        assert version == operations.api_version, f"version {version}; the model is {operations.api_version}"
        if shape is None:
            assert not tree, f"{request['action']} takes no parameters, and {tree} were sent"
            return []
        parameters = typed(tree, shape, request["action"])
    else:
        parameters = json.loads(request["body"])
    report = ParamValidator().validate(parameters, shape)
    found = report.generate_report().splitlines() if report.has_errors() else []
    return found + list(faults(parameters, shape, request["action"]))


def test_every_request_is_one_that_the_service_models_allow(models):
    wrong, seen = collections.Counter(), collections.defaultdict(collections.Counter)
    for request in requests():
        seen[request["service"]][request["action"]] += 1
        try:
            found = check(models, request)
        except AssertionError as fault:
            found = [str(fault)]
        wrong.update(f"{request['service']} {request['action']}: {text}" for text in found)
    assert not wrong, "\n".join(f"{count} times: {text}" for text, count in wrong.most_common(20))
    missed = {service: sorted(actions - set(seen[service])) for service, actions in CALLED.items() if actions - set(seen[service])}
    assert not missed, f"the suite never made these calls: {missed}; it made {dict(seen)}"
    print({service: dict(actions) for service, actions in seen.items()})


@pytest.mark.parametrize("body, expected", [
    ("Action=TerminateInstances&Version=2016-11-15&InstanceId.1=i-0123456789abcdef0", None),
    ("Action=TerminateInstances&Version=2016-11-15&InstanceIds.1=i-0123456789abcdef0", "has no parameter ['InstanceIds']"),
    ("Action=TerminateInstances&Version=2016-11-15", 'Missing required parameter in input: "InstanceIds"'),
    ("Action=CreateFleet&Version=2016-11-15&Type=instantly&LaunchTemplateConfigs.1.Overrides.1.InstanceType=g6.xlarge"
     "&TargetCapacitySpecification.TotalTargetCapacity=1", "CreateFleet.Type is 'instantly'"),
    ("Action=CreateFleet&Version=2016-11-15&Type=instant&LaunchTemplateConfigs.2.Overrides.1.InstanceType=g6.xlarge"
     "&TargetCapacitySpecification.TotalTargetCapacity=1", "is not a list from 1 on"),
    ("Action=CreateFleet&Version=2016-11-15&Type=instant&LaunchTemplateConfigs.1.Overrides.1.InstanceType=g6.xlarge"
     "&TargetCapacitySpecification.TotalTargetCapacity=one", "invalid literal"),
    ("Action=TerminateInstance&Version=2016-11-15", "has no action"),
])
def test_a_wrong_request_is_found(models, body, expected):
    request = {"service": "ec2", "action": dict(parse_qsl(body))["Action"], "body": body}
    try:
        found = check(models, request)
    except (AssertionError, ValueError) as fault:
        found = [str(fault)]
    assert (found == []) if expected is None else any(expected in text for text in found), found
