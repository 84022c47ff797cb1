"""The planted truth: what the run put into the data, counted on what left the simulator."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import polars as pl

from herald.simulator import engagement
from herald.simulator.campaigns import Plan
from herald.simulator.encode import MS_PER_HOUR, Ints
from herald.simulator.engagement import Engaged
from herald.simulator.lifecycle import Incident, Outcome
from herald.simulator.messages import Fragments, Messages
from herald.simulator.options import SimulationOptions
from herald.simulator.references import stamp
from herald.simulator.rows import Mark, Tails
from herald.simulator.users import Floats, Population, trait_frame

LATE_MS = MS_PER_HOUR
"""An event is late when it arrives longer than this after it happened."""

ORIGINAL, REDELIVERED, MALFORMED = 0, 1, 2
"""Kinds of records; MALFORMED + i is the i-th error class."""


class Truth:
    """Counts of a run, per cell (campaign and variant, or holdout) and in total."""

    def __init__(self, plan: Plan, tails: Tails, classes: list[str]) -> None:
        self.plan, self.tails, self.classes = plan, tails, classes
        self.type_of = tails.types()
        self.mark_of = tails.marks()
        self.cells = len(plan.cells)
        self.by_cell = np.zeros((self.cells, len(tails.event_types)), dtype=np.int64)
        self.by_type = np.zeros(len(tails.event_types), dtype=np.int64)
        self.redelivered = np.zeros(len(tails.event_types), dtype=np.int64)
        self.malformed: Counter[str] = Counter()
        self.late = 0
        self.out_of_order = 0
        self.newest_ms = 0
        self.first_ms = 0
        self.expected: dict[str, Floats] = {
            name: np.zeros(self.cells) for name in ("reads", "clicks", "conversions")
        }
        self.hidden_reads = 0
        self.influenced = 0
        self._seen = np.zeros(0, dtype=np.uint8)
        self._cell_of = np.zeros(0, dtype=np.int16)

    def plan_block(self, m: Messages, o: Outcome, e: Engaged) -> None:
        """Add the expected counts of a block, whether or not its events arrive in time."""
        for name, p in (
            ("reads", e.p_read),
            ("clicks", e.p_click),
            ("conversions", e.p_convert + e.p_organic),
        ):
            self.expected[name] += np.bincount(m.cell, weights=p, minlength=self.cells)
        self.hidden_reads += int(e.hidden_read.sum())
        self.influenced += len(e.influenced[0])
        needed = int(m.number[-1]) + 1 if len(m) else 0
        if needed > len(self._seen):
            more = max(needed, 2 * len(self._seen)) - len(self._seen)
            self._seen = np.concatenate([self._seen, np.zeros(more, dtype=np.uint8)])
            self._cell_of = np.concatenate([self._cell_of, np.zeros(more, dtype=np.int16)])
        self._cell_of[m.number] = m.cell

    def observe(self, frame: pl.DataFrame) -> None:
        """Count records that leave the simulator, in their order."""
        kind = frame["kind"].to_numpy()
        tail = frame["tail"].to_numpy()
        types = self.type_of[tail]
        again = kind == REDELIVERED
        self.redelivered += np.bincount(types[again], minlength=len(self.by_type))
        for broken, count in zip(
            *np.unique(kind[kind >= MALFORMED], return_counts=True), strict=True
        ):
            self.malformed[self.classes[int(broken) - MALFORMED]] += int(count)
        first = kind == ORIGINAL
        types, cell = types[first], frame["cell"].to_numpy()[first]
        self.by_type += np.bincount(types, minlength=len(self.by_type))
        mine = cell >= 0
        flat = cell[mine].astype(np.int64) * len(self.by_type) + types[mine]
        self.by_cell += np.bincount(flat, minlength=self.by_cell.size).reshape(self.by_cell.shape)
        occurred = frame["occurred"].to_numpy()[first]
        self.late += int((frame["emit"].to_numpy()[first] - occurred > LATE_MS).sum())
        if len(occurred):
            newest = np.maximum.accumulate(np.maximum(occurred, self.newest_ms))
            self.out_of_order += int((occurred < newest).sum())
            self.newest_ms = int(newest[-1])
            low = int(occurred.min())
            self.first_ms = min(self.first_ms or low, low)
        marks = self.mark_of[tail[first]]
        number = frame["number"].to_numpy()[first]
        for mark in (m for m in Mark if m):
            self._seen[number[(marks & np.uint8(mark)) > 0]] |= np.uint8(mark)

    @property
    def produced(self) -> dict[str, int]:
        """Records by kind, and their sum."""
        valid = int(self.by_type.sum())
        again, broken = int(self.redelivered.sum()), sum(self.malformed.values())
        return {"total": valid + again + broken, "valid": valid, "redelivered": again,
                "malformed": broken}  # fmt: skip

    def uniques(self) -> dict[str, Ints]:
        """Messages per cell with at least one of each kind of engagement."""
        cell = self._cell_of

        def count(chosen: npt.NDArray[np.bool_]) -> Ints:
            return np.bincount(cell[chosen], minlength=self.cells)

        seen = self._seen
        human = (seen & np.uint8(Mark.HUMAN_OPEN)) > 0
        machine = (seen & np.uint8(Mark.MACHINE_OPEN)) > 0
        click, scan = (seen & np.uint8(Mark.HUMAN_CLICK)) > 0, (seen & np.uint8(Mark.BOT_CLICK)) > 0
        return {
            "unique_opens": count(human | machine),
            "unique_human_opens": count(human),
            "unique_machine_opens": count(machine),
            "machine_only_opens": count(machine & ~human),
            "unique_clicks": count(click | scan),
            "unique_human_clicks": count(click),
            "bot_only_clicks": count(scan & ~click),
            "conversions": count((seen & np.uint8(Mark.CONVERTED)) > 0),
        }

    def scanned_messages(self) -> Ints:
        """Numbers of messages whose links a scanner followed."""
        return np.flatnonzero(self._seen & np.uint8(Mark.BOT_CLICK))

    def report(
        self, options: SimulationOptions, population: Population, incidents: list[Incident]
    ) -> dict[str, Any]:
        """The truth as one JSON object; `docs/how-to/simulate.md` explains its fields."""
        names = self.tails.event_types
        bots = population.ids.filter(pl.Series(population.is_bot)).to_list()
        return {
            "schema": 1,
            "options": options.model_dump(mode="json"),
            "start_at": stamp(options.start_ms),
            "end_at": stamp(options.end_ms),
            "users": len(population),
            "produced": self.produced,
            "by_event_type": _sorted(dict(zip(names, map(int, self.by_type), strict=True))),
            "redelivered_by_event_type": _sorted(
                dict(zip(names, map(int, self.redelivered), strict=True))
            ),
            "malformed_by_class": _sorted(dict(self.malformed)),
            "late": self.late,
            "late_after_seconds": LATE_MS // 1000,
            "out_of_order": self.out_of_order,
            "campaigns": self._campaigns(),
            "bots": {
                "users": len(bots),
                "user_ids": bots,
                "messages": len(self.scanned_messages()),
            },
            "hidden_reads": self.hidden_reads,
            "influenced_sessions": self.influenced,
            "incidents": [
                {"kind": i.kind, "channel": i.channel, "provider": i.provider,
                 "ip_pool": i.ip_pool, "mailbox_provider": i.mailbox_provider,
                 "starts_at": stamp(i.starts_ms), "ends_at": stamp(i.ends_ms)}
                for i in incidents
            ],
            "model": {
                "send_hour_concentration": engagement.HOUR_CONCENTRATION,
                "fatigue_per_message_of_last_week": 0.03,
                "organic_conversion_probability": float(engagement.P_ORGANIC[0]),
            },
        }  # fmt: skip

    def _campaigns(self) -> dict[str, Any]:
        uniques, names = self.uniques(), self.tails.event_types
        found: dict[str, Any] = {}
        for index, cell in enumerate(self.plan.cells):
            campaign, variant = cell.campaign, cell.variant
            counts = {
                names[t].partition(".")[2]: int(n)
                for t, n in enumerate(self.by_cell[index])
                if n
            }  # fmt: skip
            entry = found.setdefault(
                campaign.campaign_id,
                {
                    "name": campaign.name, "channel": campaign.blueprint.channel,
                    "holdout_share": campaign.blueprint.holdout,
                    "primary_conversion": campaign.blueprint.conversion,
                    "starts_at": stamp(campaign.starts_ms), "ends_at": stamp(campaign.ends_ms),
                    "variants": {},
                },
            )  # fmt: skip
            outcome = {
                "events": counts,
                "messages": {k: int(v[index]) for k, v in uniques.items()},
                "expected": {k: round(float(v[index]), 3) for k, v in self.expected.items()},
            }
            if variant is None:
                if campaign.blueprint.holdout:
                    entry["holdout"] = outcome
                    entry["holdout_lift"] = self._lift(index, entry["variants"], uniques)
                continue
            entry["variants"][variant.variant_id] = {
                "share": round(variant.share, 4), "open_lift": variant.open_lift,
                "click_lift": variant.click_lift, "conversion_lift": variant.conversion_lift,
                **outcome,
            }  # fmt: skip
        return found

    def _lift(
        self, index: int, variants: dict[str, Any], uniques: dict[str, Ints]
    ) -> dict[str, float | int]:
        """Planted and observed difference in conversions per targeted user who may be sent to."""
        treated = sum(v["events"].get("sent", 0) for v in variants.values())
        expected = sum(v["expected"]["conversions"] for v in variants.values())
        happened = sum(v["messages"]["conversions"] for v in variants.values())
        held = int(uniques["conversions"][index])
        users = int(self.by_cell[index][self._type(f"{self._channel(index)}.aborted")])
        base = float(engagement.P_ORGANIC[0])
        return {
            "treated_messages": treated,
            "held_out_messages": users,
            "treated_conversions": happened,
            "held_out_conversions": held,
            "planted": round(expected / treated - base, 6) if treated else 0.0,
            "observed": round(happened / treated - held / users, 6) if treated and users else 0.0,
        }

    def _channel(self, index: int) -> str:
        return self.plan.cells[index].campaign.blueprint.channel

    def _type(self, name: str) -> int:
        return self.tails.event_types.index(name)


def write_truth(
    folder: Path,
    truth: Truth,
    options: SimulationOptions,
    population: Population,
    subscribed_at_start: npt.NDArray[np.bool_],
    incidents: list[Incident],
    fragments: Fragments,
    planted: Sequence[dict[str, Any]] = (),
) -> Path:
    """Write `truth_<seed>.json`, and beside it the users' traits and the scanned messages."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"truth_{options.seed}.json"
    report = truth.report(options, population, incidents)
    report["planted"] = [
        {**p, "starts_at": stamp(p["starts_ms"]), "ends_at": stamp(p["ends_ms"])} for p in planted
    ]
    path.write_bytes(orjson.dumps(report, option=orjson.OPT_INDENT_2) + b"\n")
    trait_frame(population, subscribed_at_start).write_parquet(
        folder / f"truth_{options.seed}_users.parquet"
    )
    digits = fragments.message_ids(truth.scanned_messages())
    scanned = [f"m_{row.tobytes().decode()}" for row in digits]
    pl.DataFrame({"message_id": pl.Series(scanned, dtype=pl.String)}).write_parquet(
        folder / f"truth_{options.seed}_scanned_messages.parquet"
    )
    return path


def _sorted(counts: dict[str, int]) -> dict[str, int]:
    return {name: counts[name] for name in sorted(counts) if counts[name]}
