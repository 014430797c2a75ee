"""The policies of terraform/modules/hub, evaluated: each call of the operator goes through, and what must be refused is refused."""
import csv
import json
import os
import pathlib
import re

import pytest
from policy_sentry.querying.actions import get_action_data

import calls
from iam import Request, allowed, listed

ROOT = pathlib.Path(__file__).resolve().parents[3]


def planned(run, output):
    """An output as `terraform test -verbose -json` planned it."""
    for line in pathlib.Path(os.environ["PLANS"]).read_text().splitlines():
        message = json.loads(line)
        if message["type"] == "test_plan" and message["@testrun"] == run:
            return json.loads(message["test_plan"]["output_changes"][output]["after"])
    raise AssertionError(f"{run} planned no {output}")


@pytest.fixture(scope="session")
def policy():
    return planned("one_region", "operator_policy")


@pytest.fixture(scope="session")
def with_everything():
    return planned("for_evaluation", "operator_policy")


@pytest.fixture(scope="session")
def bill():
    return planned("the_bill_has_a_policy_of_its_own", "bill_policy")


def refusals(policy, asked):
    return [str(request) for request in asked if not allowed(policy, request)]


# What the SDK's own verbs begin with; builders and answers have other names.
VERBS = (
    "accept", "allocate", "assume", "attach", "cancel", "copy", "create", "delete", "describe", "detach", "get", "list", "modify", "purge", "put",
    "receive", "replace", "run", "send", "start", "stop", "terminate",
)


def methods_of_the_operator():
    """Every call of the SDK in src/aws: a method of a client that takes nothing and is followed by its parameters."""
    found = set()
    for path in (ROOT / "src" / "aws").rglob("*.rs"):
        text = path.read_text().split("#[cfg(test)]")[0]
        found |= set(re.findall(r"\.((?:%s)_[a-z_]+)\(\)" % "|".join(VERBS), text))
    return found


def test_every_call_of_the_operator_is_known_here():
    assert methods_of_the_operator() == set(calls.CALLS) | set(calls.OF_PEOPLE), "src/aws calls something else than this test evaluates: change tests/terraform/iam/calls.py and the policy together"


@pytest.mark.parametrize("call", sorted(calls.CALLS))
def test_allowed(policy, with_everything, call):
    assert refusals(policy, calls.CALLS[call]) == []
    assert refusals(with_everything, calls.CALLS[call]) == []


@pytest.mark.parametrize("call", sorted(calls.OF_PEOPLE))
def test_what_people_do_is_refused_to_the_operator(policy, with_everything, call):
    asked = calls.REFUSED[calls.OF_PEOPLE[call]]
    assert refusals(policy, asked) != [] and refusals(with_everything, asked) != []


def test_the_first_launch_of_an_account(policy):
    for service in ("spot", "ec2fleet"):
        name = f"{service}.amazonaws.com"
        assert allowed(policy, Request("iam:CreateServiceLinkedRole", f"{calls.CREATE_ROLE}/{name}/x", {"iam:AWSServiceName": name}))


@pytest.mark.parametrize("name", sorted(calls.REFUSED))
def test_refused(policy, name):
    assert refusals(policy, calls.REFUSED[name]) != [], f"{name} is allowed"


@pytest.mark.parametrize("name", sorted(set(calls.REFUSED) - {"a key without its option"}))
def test_refused_with_every_option(with_everything, name):
    assert refusals(with_everything, calls.REFUSED[name]) != [], f"{name} is allowed"


def test_nothing_is_allowed_that_no_code_uses(policy):
    used = {request.action for asked in calls.CALLS.values() for request in asked} | set(calls.BESIDES)
    granted = {action for statement in policy["Statement"] for action in listed(statement["Action"])}
    assert granted == used
    assert not [action for action in granted if "*" in action]


def test_every_type_that_can_be_bought_may_be_launched(policy):
    with open(ROOT / "data/catalog/gpu_instance_types.csv", newline="") as file:
        types = [row["type"] for row in csv.DictReader(file)]
    assert len(types) > 50
    for name in types:
        context = calls.tags("prod") | {"ec2:InstanceType": name, "ec2:MetadataHttpTokens": "required", "ec2:MetadataHttpPutResponseHopLimit": "1"}
        assert allowed(policy, Request("ec2:RunInstances", f"{calls.EC2}:instance/*", context)), name


def test_the_key_of_the_volumes_and_no_other(with_everything):
    via = {"kms:ViaService": "ec2.us-east-1.amazonaws.com"}
    ours = {"kms:ResourceAliases": ["alias/other", "alias/lowtide-gpu"]}
    for action in ("CreateGrant", "Decrypt", "DescribeKey", "GenerateDataKeyWithoutPlaintext", "ReEncryptFrom", "ReEncryptTo"):
        assert allowed(with_everything, Request(f"kms:{action}", calls.KEY, via | ours))
        assert not allowed(with_everything, Request(f"kms:{action}", calls.KEY, via | {"kms:ResourceAliases": ["alias/other"]}))
        assert not allowed(with_everything, Request(f"kms:{action}", calls.KEY, ours)), "not by the operator itself"
    assert not allowed(with_everything, Request("kms:ScheduleKeyDeletion", calls.KEY, via | ours))


def test_images_of_named_owners_alone(with_everything):
    for owner, expected in (("amazon", True), ("123456789012", True), ("999999999999", False)):
        image = (f"arn:aws:ec2:{calls.REGION}::image/ami-1", {"ec2:Owner": owner})
        assert (refusals(with_everything, calls.launch("ec2:RunInstances", image=image)) == []) is expected, owner


def test_an_image_that_anybody_published_is_launched_only_if_asked_for(policy):
    for owner, expected in (("amazon", True), ("999999999999", False), ("aws-marketplace", False)):
        image = (f"arn:aws:ec2:{calls.REGION}::image/ami-1", {"ec2:Owner": owner})
        assert (refusals(policy, calls.launch("ec2:RunInstances", image=image)) == []) is expected, owner


def test_the_bill(bill):
    arn = "arn:aws:s3:::billing-exports"
    assert allowed(bill, Request("s3:ListBucket", arn, {"s3:prefix": "lowtide/2026-11/"}))
    assert allowed(bill, Request("s3:GetObject", f"{arn}/lowtide/2026-11/part-0.csv.gz"))
    assert allowed(bill, Request("kms:Decrypt", "arn:aws:kms:us-east-1:123456789012:key/1"))
    assert not allowed(bill, Request("s3:ListBucket", arn, {"s3:prefix": "payroll/"}))
    assert not allowed(bill, Request("s3:ListBucket", arn))
    assert not allowed(bill, Request("s3:GetObject", f"{arn}/payroll/1.csv"))
    assert not allowed(bill, Request("s3:GetObject", "arn:aws:s3:::other/lowtide/1.csv"))
    assert not allowed(bill, Request("s3:PutObject", f"{arn}/lowtide/x"))
    assert not allowed(bill, Request("s3:DeleteObject", f"{arn}/lowtide/x"))


def reference(action):
    """AWS's own description of an action: resource patterns with the condition keys that they know."""
    service, name = action.split(":")
    data = get_action_data(service, name)
    assert data, f"AWS has no action {action}"
    return data[service]


GLOBAL = ("aws:RequestedRegion", "aws:RequestTag/", "aws:ResourceTag/")


def test_every_action_and_condition_is_one_that_aws_knows(policy, with_everything, bill):
    for statement in policy["Statement"] + with_everything["Statement"] + bill["Statement"]:
        keys = {key for wanted in statement.get("Condition", {}).values() for key in wanted}
        for action in listed(statement["Action"]):
            rows = reference(action)
            known = {key for row in rows for key in row["condition_keys"]}
            missing = {key for key in keys if key not in known and not key.startswith(GLOBAL)}
            # Asked with IfExists, a key may be one that only the other actions of the statement have.
            optional = {key for operator, wanted in statement.get("Condition", {}).items() if operator.endswith("IfExists") for key in wanted}
            assert not missing - optional, f"{action} knows no {missing}"
            if any(key.startswith("aws:ResourceTag/") for key in keys):
                assert any(key.startswith("aws:ResourceTag/") for key in known), f"{action} does not know the tags of its resources"
            if any(key.startswith("aws:RequestTag/") for key in keys):
                assert any(key.startswith("aws:RequestTag/") for key in known), f"{action} does not know the tags it is asked to set"
            if statement["Resource"] == "*":
                assert {row["access_level"] for row in rows} <= {"List", "Read"}, f"{action} changes something, and is not limited to resources"


def test_the_evaluator_itself():
    """Against what AWS documents: a deny wins, an absent key fails, IfExists passes, wildcards cross slashes, actions ignore case."""
    allow = {"Effect": "Allow", "Action": "ec2:Run*", "Resource": "arn:aws:ec2:*:1:instance/*"}
    request = Request("EC2:runInstances", "arn:aws:ec2:us-east-1:1:instance/a/b")
    assert allowed({"Statement": [allow]}, request)
    assert not allowed({"Statement": []}, request)
    assert not allowed({"Statement": [allow, allow | {"Effect": "Deny"}]}, request)
    assert not allowed({"Statement": [allow]}, Request("ec2:RunInstances", "arn:aws:ec2:us-east-1:2:instance/a"))
    for operator, context, expected in (
        ("StringEquals", {}, False), ("StringEqualsIfExists", {}, True), ("StringEqualsIfExists", {"K": "b"}, False),
        ("StringEquals", {"k": "a"}, True), ("StringEquals", {"k": "A"}, False), ("StringLike", {"k": "abc"}, False),
    ):
        assert allowed({"Statement": [allow | {"Condition": {operator: {"k": ["a", "x"]}}}]}, request.__class__(request.action, request.resource, context)) is expected, (operator, context)
    with pytest.raises(KeyError):
        allowed({"Statement": [allow | {"Condition": {"DateLessThan": {"k": "a"}}}]}, Request(request.action, request.resource, {"k": "1"}))
