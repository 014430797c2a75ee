#!/usr/bin/env python3
"""Holds values.yaml, values.schema.json and the chart's README together: every value is described by the schema and every property of the
schema is a value; README's table of values is made of values.yaml and its comments.

    values.py CHART           checks
    values.py CHART --write   writes the table again
"""
import json
import pathlib
import re
import sys

BEGIN, END = "<!-- values: tests/chart/run.sh --docs -->", "<!-- end -->"


def rows(text):
    """(path, default, comment) of every line `key: value` with a value; values.yaml is ours, two spaces an indent, a comment above its key."""
    path, comment = [], []
    for number, line in enumerate(text.splitlines(), 1):
        found = re.fullmatch(r"( *)([A-Za-z]+):(?: (.*))?", line)
        if line.lstrip().startswith("#"):
            comment.append(line.strip().lstrip("# ").rstrip())
        elif not line.strip():
            comment = []
        elif found is None:
            raise SystemExit(f"values.yaml:{number}: expected `key: value`, found {line!r}")
        else:
            depth = len(found[1]) // 2
            path = path[:depth] + [found[2]]
            yield ".".join(path), found[3], " ".join(comment)
            comment = []


# What the schema allows and values.yaml need not show: Helm's own, and a field of Kubernetes' that few use.
UNSHOWN = {"global", "operator.resources.claims"}


def described(schema, path):
    for name in path.split("."):
        properties = schema.get("properties")
        if properties is None and schema.get("type") == "object":
            # Free for the user, as a Deployment's strategy.
            return schema
        properties = properties or {}
        if name not in properties:
            return None
        schema = properties[name]
    return schema


def leaves(schema, path=()):
    for name, inner in schema.get("properties", {}).items():
        yield ".".join((*path, name))
        if inner.get("type") == "object" and inner.get("properties"):
            if inner.get("additionalProperties") is not False:
                raise SystemExit(f"values.schema.json: {'.'.join((*path, name))} lets unknown keys pass")
            yield from leaves(inner, (*path, name))


def main():
    chart = pathlib.Path(sys.argv[1])
    found = list(rows((chart / "values.yaml").read_text()))
    schema = json.loads((chart / "values.schema.json").read_text())
    if schema.get("additionalProperties") is not False:
        raise SystemExit("values.schema.json lets unknown keys pass")
    faults = [f"values.schema.json does not describe {path}" for path, _, _ in found if described(schema, path) is None]
    # Keys of a whole object, such as operator.resources.requests, are the user's own.
    known = {path for path, _, _ in found}
    faults += [f"values.yaml has no {path}" for path in leaves(schema) if path not in known | UNSHOWN]
    table = ["| value | default | |", "|---|---|---|"]
    for path, default, comment in found:
        if default is None:
            if comment:
                table.append(f"| `{path}` | | {comment} |")
            continue
        table.append(f"| `{path}` | `{default}` | {comment.replace('|', chr(92) + '|')} |")
    readme = chart / "README.md"
    text = readme.read_text()
    head, begun, rest = text.partition(BEGIN)
    if not begun or END not in rest:
        raise SystemExit(f"{readme}: no lines {BEGIN} and {END}")
    made = head + BEGIN + "\n\n" + "\n".join(table) + "\n\n" + END + rest.split(END, 1)[1]
    if "--write" in sys.argv:
        readme.write_text(made)
    elif made != text:
        faults.append("README.md's values are not those of values.yaml: tests/chart/run.sh --docs")
    for fault in faults:
        print("FAULT", fault, file=sys.stderr)
    raise SystemExit(1 if faults else 0)


if __name__ == "__main__":
    main()
