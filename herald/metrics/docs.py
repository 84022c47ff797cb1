"""The metric reference page, written from the registry."""

from __future__ import annotations

from herald.metrics.registry import DIMENSIONS, METRICS, SCOPE_TABLES, SCOPES, definition_version

HEAD = """# Metrics

Generated from `herald/metrics/registry.py` by `make docs`; a test fails when it is out of date.
Every surface (API, Superset, dbt marts, reports) computes a metric by the formula here.

- A ratio is null where its denominator is 0. Counts are stored, ratios are computed last.
- *Additive* metrics of disjoint groups add up; the others must be asked for at the grain shown.
- Metrics with an audience exist three times: `name` (all), `name__human`, `name__machine`.
  Robots and privacy proxies are flagged with reasons, never deleted.
- Money is in the tenant's currency. Unique counts are of messages; recipients are distinct users,
  exact.
"""


def render() -> str:
    """The page as Markdown."""
    lines = [HEAD, "## Date scopes", "", "| scope | label | read from |", "|---|---|---|"]
    lines += [f"| `{s}` | {SCOPES[s]} | `{SCOPE_TABLES[s]}` |" for s in SCOPES]
    lines += ["", 'Under "sent in range" a count belongs to the hour of the message\'s send, so a']
    lines += ['late open changes a past hour; under "event in range" to the hour it happened.', ""]
    lines += ["## Dimensions", "", "| dimension | column | meaning |", "|---|---|---|"]
    lines += [f"| `{d.name}` | `{d.column}` | {d.description} |" for d in DIMENSIONS.values()]
    lines += [
        "",
        "## Definitions",
        "",
        "| metric | definition | formula | window | unit | additive",
    ]
    lines[-1] += " | audiences | owner | elsewhere | version |"
    lines += ["|---|---|---|---|---|---|---|---|---|---|"]
    for metric in METRICS.values():
        elsewhere = "; ".join(f"{who}: {name}" for who, name in metric.aliases.items())
        cells = (
            f"`{metric.name}`",
            metric.description,
            f"`{metric.formula}`",
            metric.window or "none",
            metric.unit,
            "yes" if metric.additive else "no",
            "all, human, machine" if metric.audience_aware else "all",
            metric.owner,
            elsewhere or "none",
            f"`{definition_version(metric)}`",
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
