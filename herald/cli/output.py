"""What every command prints alike: a table for people, JSON for programs, errors on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from rich.console import Console
from rich.table import Table


def emit(value: Mapping[str, Any] | Sequence[Mapping[str, Any]], *, as_json: bool) -> None:
    """Print a record or a list of records, as JSON or as a table."""
    if as_json:
        sys.stdout.write(json.dumps(value, default=str) + "\n")
        return
    table = Table(box=None, pad_edge=False)
    if isinstance(value, Mapping):
        table.show_header = False
        table.add_column()
        table.add_column()
        for name, item in value.items():
            table.add_row(str(name), str(item))
    else:
        columns = list(value[0]) if value else []
        for column in columns:
            table.add_column(column)
        for row in value:
            table.add_row(*(str(row.get(column, "")) for column in columns))
    Console().print(table)


def fail(message: str, *, code: int = 1) -> NoReturn:
    """Print an error and end with the given exit code."""
    sys.stderr.write(f"herald: {message}\n")
    raise SystemExit(code)
