"""Evaluates IAM policies of identities and of resources the way AWS documents it ("Policy evaluation logic", "Policy evaluation for requests
within a single account", "IAM JSON policy elements: Condition operators"), for the operators that our policies use. Anything else in a policy
is an error, not a guess."""
import fnmatch
import re
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Request:
    """One authorisation that AWS makes: an action on one resource, in a context of condition keys. Who asks, as a policy of a resource names
    it: {"Service": name} or {"AWS": ARN}."""

    action: str
    resource: str
    context: dict = field(default_factory=dict)
    principal: dict = field(default_factory=dict)

    def __str__(self):
        return f"{self.action} on {self.resource} with {self.context}"


def listed(value):
    return value if isinstance(value, list) else [value]


def like(pattern, text, ignore_case=False):
    """IAM's wildcards: * and ? alone; fnmatch's brackets are plain characters."""
    expression = fnmatch.translate(pattern.replace("[", "[[]"))
    return re.fullmatch(expression, text, re.I if ignore_case else 0) is not None


OPERATORS = {
    "StringEquals": lambda wanted, found: wanted == found,
    "StringLike": like,
    "ArnEquals": like,
    "ArnLike": like,
    "Bool": lambda wanted, found: str(wanted).lower() == str(found).lower(),
    "NumericLessThanEquals": lambda wanted, found: float(found) <= float(wanted),
}
NEGATED = {"ArnNotEquals": "ArnEquals"}


def holds(operator, key, wanted, context):
    """One condition. A key that is absent fails, but for ...IfExists; several wanted values are alternatives. A negated operator holds where
    the other does not, so also where the key is absent."""
    if operator in NEGATED:
        return not holds(NEGATED[operator], key, wanted, context)
    optional = operator.endswith("IfExists")
    name = operator.removesuffix("IfExists")
    any_value = name.startswith("ForAnyValue:")
    name = name.removeprefix("ForAnyValue:")
    test = OPERATORS[name]
    # Condition keys are not case-sensitive.
    found = next((value for present, value in context.items() if present.lower() == key.lower()), None)
    if found is None:
        return optional
    values = listed(found)
    if len(values) != 1 and not any_value:
        raise ValueError(f"{key} has several values, and {operator} is for one")
    return any(test(one, str(value)) for one in listed(wanted) for value in values)


def named(principal, who):
    """Whether a policy's Principal is who asks. An account, which stands for what its own policies allow, is not known here."""
    if principal == "*":
        return True
    for kind, names in principal.items():
        if kind not in ("AWS", "Service") or any("*" in name or re.fullmatch(r"\d+|.*:root", name) for name in listed(names)):
            raise ValueError(f"this evaluator does not know the principal {principal}")
    return any(who.get(kind) in listed(names) for kind, names in principal.items())


def applies(statement, request):
    if {"NotAction", "NotResource", "NotPrincipal"} & set(statement):
        raise ValueError(f"this evaluator does not know all of {sorted(statement)}")
    return (
        ("Principal" not in statement or named(statement["Principal"], request.principal))
        and any(like(pattern, request.action, ignore_case=True) for pattern in listed(statement["Action"]))
        and any(like(pattern, request.resource) for pattern in listed(statement["Resource"]))
        and all(
            holds(operator, key, wanted, request.context)
            for operator, keys in statement.get("Condition", {}).items()
            for key, wanted in keys.items()
        )
    )


NOTHING = {"Statement": []}


def allowed(policy, request, of_resource=NOTHING):
    """By the policy of whoever asks (`NOTHING` for a service: it has none) and that of the resource, both of one account: a Deny in either
    refuses, otherwise an Allow in either suffices."""
    for statement in policy["Statement"]:
        if "Principal" in statement:
            raise ValueError(f"{statement} names a principal, as no identity's policy does")
    for statement in of_resource["Statement"]:
        if "Principal" not in statement:
            raise ValueError(f"{statement} names no principal, as each resource's policy does")
    effects = {statement["Effect"] for statement in policy["Statement"] + of_resource["Statement"] if applies(statement, request)}
    return "Allow" in effects and "Deny" not in effects
