"""Prints covered lines per package from coverage's JSON report: `coverage_by_package.py FILE`."""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path, PurePath


def table(report: dict[str, dict[str, dict[str, dict[str, int]]]]) -> list[str]:
    """One line a package, two folders deep, and the total."""
    lines: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for name, file in report["files"].items():
        package = "/".join(PurePath(name).parent.parts[:2])
        for key in (package, "total"):
            lines[key][0] += file["summary"]["covered_lines"]
            lines[key][1] += file["summary"]["num_statements"]
    names = [*sorted(lines.keys() - {"total"}), "total"]
    return [f"{'package':<32} {'lines':>7} {'covered':>8}"] + [
        f"{name:<32} {lines[name][1]:>7} {lines[name][0] / lines[name][1]:>8.1%}"
        for name in names
        if lines[name][1]
    ]


if __name__ == "__main__":
    print("\n".join(table(json.loads(Path(sys.argv[1]).read_text()))))
