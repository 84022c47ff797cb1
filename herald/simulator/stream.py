"""The run: block after block of messages, merged into one stream in order of arrival."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from herald.simulator.campaigns import build_plan
from herald.simulator.encode import MS_PER_DAY, MS_PER_HOUR, Ints, heads, random_bits, uuid7
from herald.simulator.engagement import Engagement
from herald.simulator.faults import BREAKERS, break_event, next_classes
from herald.simulator.incidents import Canaries, Incidents
from herald.simulator.lifecycle import Lifecycle, Mask, Outcome, plan_incidents
from herald.simulator.messages import Fragments, Knower, Messages, Scheduler
from herald.simulator.options import SimulationOptions
from herald.simulator.references import (
    Record,
    campaign_records,
    journey_records,
    template_records,
)
from herald.simulator.rows import Rows, Tails
from herald.simulator.truth import MALFORMED, ORIGINAL, REDELIVERED, Truth, write_truth
from herald.simulator.users import build_population, user_records
from herald.simulator.visits import VisitMaker

BLOCK_HOURS = 24
"""Journey steps wait at least a day, so a block of a day never feeds itself."""

MAX_BLOCK_EVENTS = 400_000
FIRST_EVENTS_PER_MESSAGE = 6.0
BATCH_ROWS = 50_000


@dataclass(frozen=True, slots=True)
class Batch:
    """Records in order of arrival: Kafka keys (user ids) and values (encoded events)."""

    keys: pl.Series
    values: pl.Series

    def __len__(self) -> int:
        return len(self.values)


class Simulation:
    """One run. `batches` may be consumed once; then `write_truth` tells what it contained."""

    def __init__(self, options: SimulationOptions) -> None:
        self.options = options
        digest = hashlib.blake2b(f"{options.tenant}/{options.seed}".encode(), digest_size=16)
        self._entropy = int.from_bytes(digest.digest()[:8], "big")
        key = int.from_bytes(digest.digest()[8:], "big")
        rng = self._rng(0)
        self.population = build_population(options, rng, key)
        self.plan = build_plan(options, rng)
        self.incidents = (
            plan_incidents(options.start_ms, options.end_ms, rng)
            if options.faults and options.outages
            else []
        )
        self.tails = Tails()
        self.lifecycle = Lifecycle(self.plan, self.tails, self.incidents)
        self.engagement = Engagement(self.plan, self.tails)
        self.planted = Incidents(options, self.lifecycle, self.engagement, self.tails)
        self.canaries = Canaries(options, self.lifecycle, self.planted.planted)
        self._surplus = 0
        self.visits = VisitMaker(self.tails)
        self.scheduler = Scheduler(options, self.plan, self.population)
        self.fragments = Fragments(options, self.plan, self.population)
        self.classes = list(BREAKERS)
        self.truth = Truth(self.plan, self.tails, [c.value for c in self.classes])
        self.tail_texts = self.tails.texts()
        knowers = np.array([Knower.of(t) for t in self.tails.event_types])
        self._knower = knowers[self.tails.types()]
        self.subscribed_at_start = self.population.subscribed.copy()
        self._previous = np.array([c.previous for c in self.plan.campaigns])
        self._broken = 0

    def references(self) -> dict[str, Iterator[Record]]:
        """Records of the campaign, template, journey and user services, by entity."""
        return {
            "campaigns": iter(campaign_records(self.options, self.plan)),
            "templates": iter(template_records(self.options)),
            "journeys": iter(journey_records(self.options)),
            "users": user_records(self.population, self.options, self._rng(1)),
        }

    def batches(self) -> Iterator[Batch]:
        """Exactly `event_count` records, in order of arrival.

        Planted incidents add and take away records beyond that count, so that the world around
        them stays as it is.
        """
        wanted = self.options.event_count
        blocks = self._blocks()
        weights = np.array([self.scheduler.block_weight(*b) for b in blocks])
        ahead = np.cumsum(weights[::-1])[::-1]
        pending: list[pl.DataFrame] = []
        produced = planned = drawn = surplus = 0
        carry = 0.0
        for i, block in enumerate(blocks):
            rng = self._rng(2 + i)
            rate = planned / drawn if drawn >= 1_000 else FIRST_EVENTS_PER_MESSAGE
            share = weights[i] / ahead[i] if ahead[i] > 0 else 0.0
            exact = max(0.0, wanted - planned) * share / rate + carry
            count = int(exact * 0.97) if block[1] == self.options.end_ms else int(exact)
            carry = exact - count
            frame = self._block(block, count, rng)
            pending.append(frame)
            planned, drawn = planned + len(frame) - self._surplus, drawn + count
            surplus += self._surplus
            while block[1] == self.options.end_ms and planned < wanted:
                frame = self._block(block, max(10, round((wanted - planned) / 5)), rng)
                pending.append(frame)
                planned += len(frame) - self._surplus
                surplus += self._surplus
            merged = pl.concat(pending)
            now = merged.filter(pl.col("emit") < block[1])
            pending = [_compacted(merged.filter(pl.col("emit") >= block[1]))]
            now = now.sort("emit", maintain_order=True).head(wanted + surplus - produced)
            produced += len(now)
            for part in now.iter_slices(BATCH_ROWS):
                self.truth.observe(part)
                yield Batch(self.population.ids.gather(part["user"]), part["value"])

    def write_truth(self, folder: Path) -> Path:
        """Write the planted truth of what `batches` gave out."""
        return write_truth(
            folder, self.truth, self.options, self.population, self.subscribed_at_start,
            self.incidents, self.fragments, self.planted.truth(),
        )  # fmt: skip

    def _rng(self, stream: int) -> np.random.Generator:
        return np.random.default_rng([self._entropy, stream])

    def _blocks(self) -> list[tuple[int, int]]:
        span = self.options.end_ms - self.options.start_ms
        per_hour = self.options.event_count / (span / MS_PER_HOUR)
        hours = int(min(BLOCK_HOURS, max(1, MAX_BLOCK_EVENTS // max(per_hour, 1))))
        starts = range(self.options.start_ms, self.options.end_ms, hours * MS_PER_HOUR)
        return [(s, min(s + hours * MS_PER_HOUR, self.options.end_ms)) for s in starts]

    def _block(self, block: tuple[int, int], count: int, rng: np.random.Generator) -> pl.DataFrame:
        """Records that messages and visits of one block cause, up to the end of the run."""
        m = self.scheduler.draw(*block, count, rng)
        rows = Rows()
        outcome = self.lifecycle.run(m, self.population, rows, rng)
        engaged = self.engagement.run(m, outcome, self.population, rows, rng)
        visits = self.visits.run(m, engaged, self.population, block, rng)
        self.truth.plan_block(m, outcome, engaged)
        quiet = rows.arrays()
        subject, at, tail, device = self.planted.apply(m, outcome, quiet, block, block[0])
        self._surplus = len(subject) - len(quiet[0])
        base = len(m)
        subject = np.concatenate([subject, base + np.arange(len(visits.user))])
        at = np.concatenate([at, visits.at_ms])
        tail = np.concatenate([tail, visits.tail])
        device = np.concatenate([device, np.ones(len(visits.user), dtype=bool)])
        emit = at + self._delays(device, rng)
        kept = emit < self.options.end_ms
        subject, at, tail, emit = subject[kept], at[kept], tail[kept], emit[kept]
        # texts of messages come once for each knower, then those of visits
        text = np.where(
            subject < base, self._knower[tail] * base + subject, subject + (len(Knower) - 1) * base
        )
        texts = pl.concat(
            [self.fragments.of_messages(m), self.fragments.of_visits(visits.number, visits.user)]
        )
        users = np.concatenate([m.user, visits.user])
        numbers = np.concatenate([m.number, np.full(len(visits.user), -1)])
        cells = np.concatenate([m.cell, np.full(len(visits.user), -1)])
        values = pl.DataFrame(
            {
                "head": heads(at, emit, rng),
                "text": texts.gather(text),
                "tail": self.tail_texts.gather(tail),
            }
        ).select(pl.concat_str("head", "text", "tail").cast(pl.Binary).alias("value"))
        frame = values.with_columns(
            emit=pl.Series(emit), occurred=pl.Series(at), tail=pl.Series(tail),
            user=pl.Series(users[subject]), number=pl.Series(numbers[subject]),
            cell=pl.Series(cells[subject]).cast(pl.Int32),
            kind=pl.lit(ORIGINAL, dtype=pl.Int16),
        )  # fmt: skip
        if self.options.canary_minutes:
            more = self.canaries.frame(block, block[0]).with_columns(
                kind=pl.lit(ORIGINAL, dtype=pl.Int16)
            )
            more = more.filter(pl.col("emit") < self.options.end_ms)
            self._surplus += len(more)
            frame = pl.concat([frame, more.select(frame.columns)])
        self._after(block, m, outcome, engaged.converted, engaged.unsubscribed[0])
        return self._with_faults(frame, rng) if self.options.faults else frame

    def _delays(self, device: Mask, rng: np.random.Generator) -> Ints:
        """Milliseconds from an event to its arrival; devices may be offline, pipelines stuck."""
        n = len(device)
        if not self.options.faults:
            return np.full(n, 50, dtype=np.int64)
        delay = np.minimum(np.exp(rng.standard_normal(n) * 0.8 + 5.3), 60_000).astype(np.int64) + 1
        offline = np.flatnonzero(device & (rng.random(n) < 0.03))
        delay[offline] += rng.integers(30_000, MS_PER_HOUR // 2, len(offline))
        late = np.flatnonzero(rng.random(n) < self.options.late_share)
        delay[late] += rng.integers(2 * MS_PER_HOUR, 3 * MS_PER_DAY, len(late))
        return delay

    def _after(
        self, block: tuple[int, int], m: Messages, o: Outcome, converted: Mask, left: Ints
    ) -> None:
        """What later blocks inherit: fatigue, subscriptions, journey steps that are due."""
        population = self.population
        population.recent *= np.exp(-(block[1] - block[0]) / (7 * MS_PER_DAY))
        population.recent += np.bincount(m.user[o.is_sent], minlength=len(population))
        population.subscribed[m.user[left], m.channel[left]] = False
        for campaign in self.plan.campaigns:
            if campaign.previous < 0:
                continue
            goes_on = np.flatnonzero(
                (m.campaign == campaign.previous) & o.is_sent & ~converted
            )  # fmt: skip
            channel = self.scheduler.channel[campaign.number]
            goes_on = goes_on[population.subscribed[m.user[goes_on], channel]]
            self.scheduler.queue(
                np.full(len(goes_on), campaign.number), m.user[goes_on],
                m.at_ms[goes_on] + campaign.delay_ms,
            )  # fmt: skip

    def _with_faults(self, frame: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
        """Add redelivered copies and malformed events, each with its own share."""
        n = len(frame)
        twice = np.flatnonzero(rng.random(n) < self.options.duplicate_share)
        again = frame[twice].with_columns(
            emit=pl.col("emit") + pl.Series(rng.integers(500, 6 * MS_PER_HOUR, len(twice))),
            kind=pl.lit(REDELIVERED, dtype=pl.Int16),
        )
        donors = np.sort(rng.integers(0, n, rng.binomial(n, self.options.malformed_share)))
        kinds = next_classes(self._broken, len(donors))
        self._broken += len(donors)
        donor = frame[donors]
        ids = uuid7(donor["occurred"].to_numpy(), random_bits(rng, len(donor)))
        values = [
            break_event(value, kind, ids[i].tobytes(), self.options.tenant)
            for i, (value, kind) in enumerate(zip(donor["value"], kinds, strict=True))
        ]
        codes = [MALFORMED + self.classes.index(kind) for kind in kinds]
        broken = donor.with_columns(
            value=pl.Series(values, dtype=pl.Binary),
            emit=pl.col("emit") + 5,
            kind=pl.Series(codes, dtype=pl.Int16),
        )
        end = self.options.end_ms
        return pl.concat([frame, again.filter(pl.col("emit") < end),
                          broken.filter(pl.col("emit") < end)])  # fmt: skip


def _compacted(frame: pl.DataFrame) -> pl.DataFrame:
    """Copy the few values that wait, or their views would keep whole blocks in memory."""
    values = frame["value"].to_arrow(compat_level=pl.CompatLevel.oldest())
    return frame.with_columns(value=pl.Series(pl.from_arrow(values)))
