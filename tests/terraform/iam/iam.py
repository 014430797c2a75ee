"""Evaluates an IAM identity policy the way AWS documents it ("Policy evaluation logic", "IAM JSON policy elements: Condition operators"),
for the operators that our policies use. Anything else in a policy is an error, not a guess."""
import fnmatch
import re
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Request:
    """One authorisation that AWS makes: an action on one resource, in a context of condition keys."""

    action: str
    resource: str
    context: dict = field(default_factory=dict)

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


def holds(operator, key, wanted, context):
    """One condition. A key that is absent fails, but for ...IfExists; several wanted values are alternatives."""
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


def applies(statement, request):
    if "NotAction" in statement or "NotResource" in statement or "Principal" in statement:
        raise ValueError(f"this evaluator does not know all of {sorted(statement)}")
    return (
        any(like(pattern, request.action, ignore_case=True) for pattern in listed(statement["Action"]))
        and any(like(pattern, request.resource) for pattern in listed(statement["Resource"]))
        and all(
            holds(operator, key, wanted, request.context)
            for operator, keys in statement.get("Condition", {}).items()
            for key, wanted in keys.items()
        )
    )


def allowed(policy, request):
    effects = {statement["Effect"] for statement in policy["Statement"] if applies(statement, request)}
    return "Allow" in effects and "Deny" not in effects
