#!/usr/bin/env python3
"""Writes the files of tests/nab/data from a checkout of https://github.com/numenta/NAB: convert.py CHECKOUT FOLDER

Each file of NAB becomes one: the seconds since 1970 of its first row, the usual seconds between rows, the windows of its label as first
and last row (from 0), then one value a line, of nine digits. A line `+N` says that the next row comes N seconds after the one before.
"""
import csv, json, pathlib, sys
from collections import Counter
from datetime import datetime, timezone


def seconds(text):
    return int(datetime.fromisoformat(text).replace(tzinfo=timezone.utc).timestamp())


checkout, folder = map(pathlib.Path, sys.argv[1:])
for name, windows in json.loads((checkout / "labels/combined_windows.json").read_text()).items():
    with open(checkout / "data" / name) as file:
        rows = [(seconds(row["timestamp"]), float(row["value"])) for row in csv.DictReader(file)]
    steps = [later - earlier for (earlier, _), (later, _) in zip(rows, rows[1:])]
    usual = Counter(steps).most_common(1)[0][0]
    lines = [f"start {rows[0][0]}", f"step {usual}"]
    for first, last in windows:
        inside = [at for at, (when, _) in enumerate(rows) if seconds(first) <= when <= seconds(last)]
        lines.append(f"window {inside[0]} {inside[-1]}")
    for step, (_, value) in zip([usual, *steps], rows):
        if step != usual:
            lines.append(f"+{step}")
        lines.append(f"{value:.9g}")
    target = folder / (name.replace("/", "__").removesuffix(".csv") + ".txt")
    target.write_text("\n".join(lines) + "\n")
