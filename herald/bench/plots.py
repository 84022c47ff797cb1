"""Plots of a bench record as SVG text. The same record gives the same bytes."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib as mpl
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter

Points = Sequence[Mapping[str, Any]]

STYLE: dict[Any, Any] = {
    "svg.hashsalt": "herald",  # ids of the picture's parts, else random
    "svg.fonttype": "none",  # text stays text
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "axes.axisbelow": True,
    "axes.prop_cycle": cycler(
        color=["#2f6fab", "#d9822b", "#3d9970", "#a64d79", "#7a7a7a", "#b5a20d"]
    ),
}
THOUSANDS = StrMethodFormatter("{x:,.0f}")
STAGES = ("fetch_us", "parse_us", "insert_client_us", "insert_server_us", "merges_us")
STAGE_NAMES = {
    "fetch_us": "fetch",
    "parse_us": "parse and validate",
    "insert_client_us": "insert: client",
    "insert_server_us": "insert: warehouse",
    "merges_us": "warehouse: merges, rest",
}


def svg(draw: Callable[[Axes], None], *, width: float = 8.0, height: float = 3.2) -> str:
    """A figure of one pair of axes as SVG text; sizes in inches."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        draw(figure.subplots())
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": "herald bench page"})
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def _legend(axes: Axes) -> None:
    """Beside the plot, where it hides nothing."""
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))


def drains(rates: Mapping[str, float]) -> str:
    """Bars of events/s by way."""

    def draw(axes: Axes) -> None:
        names = list(rates)
        bars = axes.barh(names, [rates[n] for n in names])
        axes.bar_label(bars, [f"{rates[n]:,.0f}" for n in names], padding=3)
        axes.invert_yaxis()
        axes.margins(x=0.15)
        axes.set_xlabel("events a second")
        axes.xaxis.set_major_formatter(THOUSANDS)

    return svg(draw, height=0.5 * len(rates) + 0.8)


def lag(points: Points) -> str:
    """Lag over the seconds of the sustained flow."""

    def draw(axes: Axes) -> None:
        axes.plot([p["seconds"] for p in points], [p["lag"] for p in points], linewidth=1)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("seconds")
        axes.set_ylabel("events not landed")
        axes.yaxis.set_major_formatter(THOUSANDS)

    return svg(draw)


def visible(points: Points) -> str:
    """Latency by rate."""

    def draw(axes: Axes) -> None:
        rates = [p["rate"] for p in points]
        for name in ("p50_s", "p90_s", "p99_s"):
            axes.plot(rates, [p[name] for p in points], marker="o", label=name.removesuffix("_s"))
        axes.set_xscale("log")
        axes.set_xticks(rates, [f"{rate:,}" for rate in rates])
        axes.minorticks_off()
        axes.set_ylim(bottom=0)
        axes.set_xlabel("events a second")
        axes.set_ylabel("produced to visible, s")
        _legend(axes)

    return svg(draw)


def ways(points: Points) -> str:
    """Events/s by way and stage."""

    def draw(axes: Axes) -> None:
        names = list(dict.fromkeys(p["way"] for p in points))
        stages = list(dict.fromkeys(p["stage"] for p in points))
        wide = 0.8 / len(stages)
        for n, stage in enumerate(stages):
            found = {p["way"]: p["events_per_s"] for p in points if p["stage"] == stage}
            places = [names.index(way) + (n - (len(stages) - 1) / 2) * wide for way in found]
            axes.bar(places, list(found.values()), wide, label=stage)
        axes.set_xticks(range(len(names)), [name.replace("_", " ") for name in names])
        axes.set_ylabel("events a second")
        axes.yaxis.set_major_formatter(THOUSANDS)
        _legend(axes)

    return svg(draw)


def cost(points: Points, kind: str, by: str, label: str) -> str:
    """µs of CPU an event by stage, stacked, for each batch size or number of fields."""

    def draw(axes: Axes) -> None:
        chosen = [p for p in points if p["kind"] == kind]
        names = [f"{p[by]:,}" for p in chosen]
        floor = [0.0] * len(chosen)
        for stage in STAGES:
            values = [float(p[stage]) for p in chosen]
            axes.bar(names, values, 0.7, bottom=floor, label=STAGE_NAMES[stage])
            floor = [low + value for low, value in zip(floor, values, strict=True)]
        axes.set_xlabel(label)
        axes.set_ylabel("µs of CPU an event")
        _legend(axes)

    return svg(draw)


def by_rate(points: Points) -> str:
    """µs of CPU an event by process, stacked, for each rate."""

    def draw(axes: Axes) -> None:
        rates = sorted({p["rate"] for p in points})
        floor = [0.0] * len(rates)
        for process in dict.fromkeys(p["process"] for p in points):
            found = {p["rate"]: p["cpu_us"] for p in points if p["process"] == process}
            values = [float(found.get(rate, 0.0)) for rate in rates]
            axes.bar([f"{rate:,}" for rate in rates], values, 0.7, bottom=floor, label=process)
            floor = [low + value for low, value in zip(floor, values, strict=True)]
        axes.set_xlabel("events a second")
        axes.set_ylabel("µs of CPU an event")
        _legend(axes)

    return svg(draw)


def recovery(points: Points) -> str:
    """Lag after each kill."""

    def draw(axes: Axes) -> None:
        for victim in dict.fromkeys(p["victim"] for p in points):
            curve = [p for p in points if p["victim"] == victim]
            axes.plot([p["seconds"] for p in curve], [p["lag"] for p in curve], label=victim)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("seconds since the kill")
        axes.set_ylabel("events not landed")
        axes.yaxis.set_major_formatter(THOUSANDS)
        _legend(axes)

    return svg(draw)
