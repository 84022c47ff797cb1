"""The report as one HTML page without scripts or other files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

_STYLE = """
:root{--ink:#1c2430;--soft:#66707f;--line:#e3e7ed;--good:#16784a;--bad:#b3261e;--warn:#9a5b00}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);max-width:1080px;margin:2.5rem auto;
padding:0 1.25rem}
h1{font-size:1.6rem;margin:0}h2{font-size:1.1rem;margin:2.25rem 0 .5rem}
p.when{color:var(--soft);margin:.25rem 0 1.5rem}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:.75rem}
.tile{border:1px solid var(--line);border-radius:8px;padding:.75rem 1rem}
.tile b{display:block;font-size:1.7rem;line-height:1.2}.tile span{color:var(--soft)}
.wide{overflow-x:auto}table{border-collapse:collapse;width:100%}
th,td{text-align:left;padding:.4rem .6rem;border-bottom:1px solid var(--line);vertical-align:top}
th{color:var(--soft);font-weight:600}td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}
.good{color:var(--good)}.bad{color:var(--bad)}.warn{color:var(--warn)}
.none{color:var(--soft)}
"""


def render_page(report: Mapping[str, Any]) -> str:
    """The whole page; every value is escaped."""
    summary = report["summary"]
    unbalanced = [r for r in report["reconciliation"] if _is_unbalanced(r)]
    tiles = [
        (summary["checks"], "checks", ""),
        (summary["passed"], "passed", "good"),
        (summary["errors"], "errors, gates closed", "bad" if summary["errors"] else "good"),
        (summary["warnings"], "warnings", "warn" if summary["warnings"] else "good"),
        (
            len(unbalanced),
            "topics that do not add up",
            "bad" if unbalanced else "good",
        ),
    ]
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Data quality</title>
<meta name="viewport" content="width=device-width,initial-scale=1">
<style>{_STYLE}</style></head><body>
<h1>Data quality</h1>
<p class="when">Generated {_show(report["generated_at"])}, checks and dead letters since
{_show(report["since"])}; all times UTC.</p>
<div class="tiles">{"".join(_tile(*tile) for tile in tiles)}</div>
<h2>Failing now</h2>
{
        _table(
            report["failing"],
            (
                "severity",
                "suite",
                "expectation",
                "column",
                "observed",
                "expected",
                "message",
                "checked_at",
            ),
            "Nothing fails.",
        )
    }
<h2>Suites, latest outcome of each check</h2>
{
        _table(
            report["suites"],
            ("suite", "layer", "passed", "errors", "warnings", "checked_at"),
            "No suite ran in this time.",
        )
    }
<h2>Produced = stored + dead-lettered</h2>
<p class="none">Offsets since the first landing. Reference topics are compacted by the broker, so
there offsets may be missing.</p>
{
        _table(
            report["reconciliation"],
            ("topic", "produced", "stored", "dead_lettered", "difference", "lag"),
            "Nothing has landed.",
        )
    }
<h2>Dead letters by class</h2>
{
        _table(
            report["dead_letters"],
            ("topic", "error_class", "error_field", "dead_letters", "last_at", "example"),
            "Nothing was refused.",
        )
    }
<h2>Trend</h2>
{_trend(report["trend"])}
</body></html>
"""


def _is_unbalanced(row: Mapping[str, Any]) -> bool:
    """More rows than offsets is always wrong; fewer only on a topic that is not compacted."""
    return bool(row["difference"] < 0 or (row["difference"] > 0 and ".events." in row["topic"]))


def _tile(value: object, label: str, tone: str) -> str:
    return (
        f'<div class="tile"><b class="{tone}">{_show(value)}</b><span>{escape(label)}</span></div>'
    )


def _show(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return escape(str(value))


def _table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], empty: str) -> str:
    if not rows:
        return f'<p class="none">{escape(empty)}</p>'
    numeric = {c for c in columns if isinstance(rows[0][c], int)}
    head = "".join(
        f"<th{_numeric(c in numeric)}>{escape(c.replace('_', ' '))}</th>" for c in columns
    )
    body = "".join(
        "<tr>"
        + "".join(f"<td{_numeric(c in numeric)}>{_cell(c, row[c])}</td>" for c in columns)
        + "</tr>"
        for row in rows
    )
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="wide">{table}</div>'


def _numeric(is_numeric: bool) -> str:
    return ' class="n"' if is_numeric else ""


def _cell(column: str, value: object) -> str:
    tone = {
        ("severity", "error"): "bad",
        ("severity", "warning"): "warn",
    }.get((column, str(value)))
    if column in {"errors", "warnings"} and value:
        tone = "bad" if column == "errors" else "warn"
    return f'<span class="{tone}">{_show(value)}</span>' if tone else _show(value)


def _trend(days: Sequence[Mapping[str, Any]]) -> str:
    """A bar a day: checks that passed, warned, failed; the numbers stand below."""
    if not days:
        return '<p class="none">No checks yet.</p>'
    top = max(day["checks"] for day in days)
    width, gap, height = 40, 12, 120
    bars = []
    for i, day in enumerate(days):
        x, y = i * (width + gap), float(height)
        passed = day["checks"] - day["errors"] - day["warnings"]
        parts = ((passed, "#9cc9b0"), (day["warnings"], "#e5b567"), (day["errors"], "#d0554d"))
        for count, colour in parts:
            tall = height * count / top
            y -= tall
            bars.append(
                f'<rect x="{x}" y="{y:.1f}" width="{width}" height="{tall:.1f}" fill="{colour}"/>'
            )
        bars.append(
            f'<text x="{x + width / 2}" y="{height + 16}" font-size="11" text-anchor="middle" '
            f'fill="#66707f">{escape(str(day["date"])[5:])}</text>'
        )
    total = len(days) * (width + gap)
    chart = (
        f'<svg role="img" aria-label="checks by day" width="{total}" height="{height + 24}">'
        f"{''.join(bars)}</svg>"
    )
    return chart + _table(days, ("date", "runs", "checks", "errors", "warnings"), "")
