"""Asks the public FOCUS validator about copies of a file that have mistakes in them, all in one process: it takes seconds to load.

usage: ask.py FILE FOLDER -- ARGUMENTS-OF-FOCUS-VALIDATOR < changes.json

changes.json is a list with one list of changes for each copy: {"column": NAME, "kind": "null" | "drop" | "text" | "number", "value": TEXT, "rows": [N, ...]}.
Prints a line of JSON for each copy: {"file": PATH, "text": what the validator printed}.
"""

import contextlib
import decimal
import io
import json
import os
import sys

import focus_validator
import pyarrow as pa
import pyarrow.parquet as pq
from focus_validator.main import main

# It looks for its own files where it is started.
os.chdir(os.path.dirname(os.path.dirname(focus_validator.__file__)))


def changed(table, change):
    name = change["column"]
    if change["kind"] == "drop":
        return table.drop_columns([name])
    value = {"null": None, "text": change["value"], "number": change["kind"] == "number" and decimal.Decimal(change["value"])}[change["kind"]]
    values = table.column(name).to_pylist()
    for row in change["rows"]:
        values[row] = value
    at = table.schema.get_field_index(name)
    field = table.schema.field(at).with_nullable(True)
    return table.set_column(at, field, pa.array(values, field.type))


def asked(path, arguments):
    printed = io.StringIO()
    sys.argv = ["focus-validator", *arguments, "--data-file", path]
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(io.StringIO()):
        try:
            main()
        except SystemExit:
            pass
    return printed.getvalue()


file, folder = sys.argv[1:3]
arguments = sys.argv[4:]
for number, changes in enumerate(json.load(sys.stdin)):
    table = pq.read_table(file)
    for change in changes:
        table = changed(table, change)
    copy = os.path.join(folder, f"{number}.parquet")
    pq.write_table(table, copy)
    print(json.dumps({"file": copy, "text": asked(copy, arguments)}), flush=True)
