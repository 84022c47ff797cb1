"""Planted incidents: what alerts have to find. Asked for, never there by default.

They change rows of events before these become text, with random numbers of their own, so that a run
without them keeps its bytes. Each stands in the truth file under `incidents`, with its window.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from herald.simulator.catalog import CHANNELS, ROUTES
from herald.simulator.encode import (
    MS_PER_DAY,
    MS_PER_HOUR,
    Ints,
    compact,
    random_bits,
    timestamps,
    uuid7,
)
from herald.simulator.engagement import Engagement
from herald.simulator.lifecycle import Incident, Lifecycle, Outcome
from herald.simulator.messages import EMAIL, Messages
from herald.simulator.options import SimulationOptions
from herald.simulator.rows import Codes, Tails

Mask = npt.NDArray[np.bool_]
Rows4 = tuple[Ints, Ints, Codes, Mask]
"""Subject, time, tail and whether a device reports it, of each event."""

HOURS_OF_KIND: dict[str, float] = {
    "callbacks_lost": 1.5,
    "bounce_spike": 2.0,
    "complaint_spike": 4.0,
    "provider_silent": 1.5,
    "provider_outage": 1.5,
    "click_bots": 0.7,
    "send_loop": 2.0,
    "stalled": 1.0,
    "volume_drop": 3.0,
    "double_send": 3.0,
    "opens_lost": 8.0,
    "canary_lost": 1.0,
}
"""Kinds of planted incidents, and how long each lasts."""

STRENGTHS: dict[str, tuple[float, float]] = {
    "callbacks_lost": (0.5, 1.0),
    "bounce_spike": (0.08, 0.3),
    "complaint_spike": (0.01, 0.03),
    "stalled": (0.85, 1.0),
    "volume_drop": (0.6, 0.95),
    "opens_lost": (0.6, 0.95),
}
"""Share of the messages or events that an incident hits, drawn for each; others hit all."""

BUSY_HOURS = (7, 20)
"""UTC hours within which they begin: nobody can see a silence when nothing is said."""

_ANSWERS = ("delivered", "bounced", "soft_bounced", "failed", "deferred")
_DELIVERY = ("attempted", "sent", *_ANSWERS, "marked_as_spam")
_SENDING = ("targeted", "eligible", "attempted", "sent", "delivered")
_CANARY_ROUTES = (("email", "sendgrid"), ("email", "ses"), ("push", "apns"), ("push", "fcm"))
_TARGETS = {
    "callbacks_lost": _CANARY_ROUTES,
    "bounce_spike": _CANARY_ROUTES,
    "provider_silent": _CANARY_ROUTES,
    "provider_outage": _CANARY_ROUTES,
    "canary_lost": _CANARY_ROUTES,
    "complaint_spike": (("email", ""),),
    "click_bots": (("email", ""),),
    "stalled": (("email", ""), ("push", "")),
    "opens_lost": (("email", ""),),
}
CANARY_CAMPAIGN = "canary"


@dataclass(frozen=True, slots=True)
class Planted:
    """One incident; empty channel or provider means all of them. Times are Unix ms."""

    kind: str
    channel: str
    provider: str
    starts_ms: int
    ends_ms: int
    strength: float = 1.0


def plan(options: SimulationOptions) -> list[Planted]:
    """Incidents of the last week (or of a shorter run): none overlaps another, all end in time."""
    rng = np.random.default_rng([options.seed, 0xA1E27])
    kinds: list[str] = []
    for _ in range(options.incidents_per_kind):
        kinds += _shuffled(kinds[-1:], rng)
    begin = max(options.start_ms, options.end_ms - 7 * MS_PER_DAY)
    free = [
        at for at in range(-(-begin // MS_PER_HOUR) * MS_PER_HOUR, options.end_ms, MS_PER_HOUR)
        if BUSY_HOURS[0] <= at // MS_PER_HOUR % 24 < BUSY_HOURS[1]
    ]  # fmt: skip
    found: list[Planted] = []
    step = len(free) / max(1, len(kinds))
    for i, kind in enumerate(kinds):
        starts = int(free[int(i * step)]) + int(rng.integers(0, 20)) * 60_000
        lasts = int(HOURS_OF_KIND[kind] * MS_PER_HOUR)
        targets = _TARGETS.get(kind, (("", ""),))
        channel, provider = targets[int(rng.integers(len(targets)))]
        strength = round(float(rng.uniform(*STRENGTHS.get(kind, (1.0, 1.0)))), 3)
        if starts + lasts < options.end_ms:
            found.append(Planted(kind, channel, provider, starts, starts + lasts, strength))
    return found


class Incidents:
    """Applies planted incidents to the rows of each block."""

    def __init__(
        self, options: SimulationOptions, lifecycle: Lifecycle, engagement: Engagement, tails: Tails
    ) -> None:
        self.options, self.lifecycle, self.engagement = options, lifecycle, engagement
        self.planted = plan(options) if options.incidents_per_kind else []
        lifecycle.incidents += [
            Incident("provider", p.channel, p.provider, "", "", p.starts_ms, p.ends_ms)
            for p in self.planted
            if p.kind == "provider_outage"
        ]
        self._tails = tails
        self._providers = np.array([r.provider for r in ROUTES])
        self._actions: npt.NDArray[np.str_] = np.empty(0, dtype=str)

    def truth(self) -> list[dict[str, Any]]:
        """What was planted, as rows of the truth file."""
        return [asdict(p) for p in self.planted]

    def apply(
        self, m: Messages, o: Outcome, rows: Rows4, block: tuple[int, int], number: int
    ) -> Rows4:
        """Rows of a block with the incidents that touch it."""
        if not self.planted or not len(m):
            return rows
        if not len(self._actions):
            types = [t.partition(".")[2] for t in self._tails.event_types]
            self._actions = np.array(types)[self._tails.types()]
        rng = np.random.default_rng([self.options.seed, 0xA1E28, number])
        for one in self.planted:
            # events follow their message for some time
            if one.starts_ms - MS_PER_DAY < block[1] and one.ends_ms > block[0] - MS_PER_DAY:
                rows = self._one(one, m, o, rows, rng)
        return rows

    def _one(
        self, p: Planted, m: Messages, o: Outcome, rows: Rows4, rng: np.random.Generator
    ) -> Rows4:
        subject, at, tail, _ = rows
        action = self._actions[tail]
        mine = np.ones(len(m), dtype=bool)
        if p.channel:
            mine &= m.channel == CHANNELS.index(p.channel)
        if p.provider:
            mine &= self._providers[m.route] == p.provider
        now = (at >= p.starts_ms) & (at < p.ends_ms)
        here = mine[subject]
        draw = rng.random(len(subject))

        def during(times: Ints) -> Mask:
            inside: Mask = mine & (times >= p.starts_ms) & (times < p.ends_ms)
            return inside

        match p.kind:
            case "callbacks_lost":
                return _kept(rows, ~(here & now & np.isin(action, _ANSWERS) & (draw < p.strength)))
            case "provider_silent":
                return _kept(rows, ~(here & now & np.isin(action, _DELIVERY)))
            case "opens_lost":
                return _kept(rows, ~(here & now & (action == "opened") & (draw < p.strength)))
            case "stalled":
                stuck = (during(m.at_ms) & (rng.random(len(m)) < p.strength))[subject]
                return _kept(rows, ~(stuck & ~np.isin(action, ("targeted", "eligible"))))
            case "volume_drop":
                gone = during(m.at_ms) & (rng.random(len(m)) < p.strength)
                return _kept(rows, ~gone[subject])
            case "double_send":
                again = np.flatnonzero(during(m.at_ms)[subject] & np.isin(action, _SENDING))
                twice = np.concatenate([again, again])
                wait = np.repeat([30_000, 65_000], len(again))
                return _more(rows, subject[twice], at[twice] + wait, tail[twice])
            case "bounce_spike":
                hit = during(o.sent_ms) & o.is_sent & (rng.random(len(m)) < p.strength)
                return self._bounced(hit, o, m, rows)
            case "complaint_spike":
                angry = np.flatnonzero(
                    during(o.delivered_ms) & o.is_delivered & (rng.random(len(m)) < p.strength)
                )
                wait = rng.integers(60_000, 15 * 60_000, len(angry))
                spam = np.full(len(angry), self.engagement.spam)
                return _more(rows, angry, o.delivered_ms[angry] + wait, spam)
            case "click_bots":
                return self._clicked(p, m, o, rows, rng)
            case "send_loop":
                return self._looped(p, m, o, rows, rng)
            case _:  # outages go through the life cycle, canaries are made elsewhere
                return rows

    def _bounced(self, hit: Mask, o: Outcome, m: Messages, rows: Rows4) -> Rows4:
        subject, at, _, _ = rows
        rows = _kept(rows, ~(hit[subject] & (at > o.sent_ms[subject])))
        who = np.flatnonzero(hit)
        tails = np.zeros(len(who), dtype=np.int64)
        for channel, codes in self.lifecycle.bounced.items():
            mine = m.channel[who] == channel
            tails[mine] = codes[0]
        return _more(rows, who, o.sent_ms[who] + 2_000, tails)

    def _clicked(
        self, p: Planted, m: Messages, o: Outcome, rows: Rows4, rng: np.random.Generator
    ) -> Rows4:
        """Bots follow the links of the busiest campaign: two clicks a message of its day."""
        mail = o.is_delivered & (m.channel == EMAIL) & (o.delivered_ms < p.ends_ms)
        if not mail.any() or not (m.at_ms.min() <= p.starts_ms < m.at_ms.max()):
            return rows
        campaign = int(np.bincount(m.campaign[mail]).argmax())
        targets = np.flatnonzero(mail & (m.campaign == campaign))
        day = MS_PER_DAY / max(1, int(m.at_ms.max()) - int(m.at_ms.min()))
        sent = int((o.is_delivered & (m.campaign == campaign)).sum() * day)
        who = rng.choice(targets, max(600, 2 * sent))
        at = p.starts_ms + rng.integers(0, p.ends_ms - p.starts_ms, len(who))
        codes = self.engagement.scanned[campaign, rng.integers(0, 4, len(who)), 0]
        return _more(rows, who, at, codes)

    def _looped(
        self, p: Planted, m: Messages, o: Outcome, rows: Rows4, rng: np.random.Generator
    ) -> Rows4:
        """A dozen users get the same message forty times."""
        able = np.flatnonzero(o.is_delivered & (m.channel == EMAIL) & (o.sent_ms < p.starts_ms))
        if not len(able) or not (m.at_ms.min() <= p.starts_ms < m.at_ms.max()):
            return rows
        who = np.repeat(rng.choice(able, min(12, len(able)), replace=False), 40)
        at = p.starts_ms + rng.integers(0, p.ends_ms - p.starts_ms, len(who))
        sent = np.full(len(who), self.lifecycle.sent[EMAIL])
        delivered = np.full(len(who), self.lifecycle.delivered[EMAIL])
        rows = _more(rows, who, at, sent)
        return _more(rows, who, at + 1_500, delivered)


class Canaries:
    """Messages to ourselves, one a provider every few minutes: attempted, sent, delivered."""

    def __init__(
        self, options: SimulationOptions, lifecycle: Lifecycle, planted: list[Planted]
    ) -> None:
        self.options, self.lifecycle = options, lifecycle
        self.lost = [p for p in planted if p.kind == "canary_lost"]
        self.silent = [p for p in planted if p.kind == "provider_silent"]
        self._done_ms = 0

    def frame(self, block: tuple[int, int], number: int) -> pl.DataFrame:
        """Their events of a block, once, in the columns of the stream's frames without `kind`."""
        first, self._done_ms = max(block[0], self._done_ms), block[1]
        rng = np.random.default_rng([self.options.seed, 0xCA4A, number])
        every = self.options.canary_minutes * 60_000
        moments: list[tuple[int, str, str, int, str, int]] = []
        for at in range(-(-first // every) * every, block[1], every):
            for channel, provider in _CANARY_ROUTES:
                took = int(rng.lognormal(7.6, 0.5))
                moments += [
                    (moment, channel, provider, at, action, tail)
                    for moment, action, tail in self._moments(at, channel, provider, took)
                ]
        return self._events(moments, rng)

    def _moments(
        self, at: int, channel: str, provider: str, took: int
    ) -> list[tuple[int, str, int]]:
        """Time, action and tail of what is heard of one canary; `took` ms to its delivery."""
        if _hits(self.silent, provider, at):
            return []
        code = CHANNELS.index(channel)
        moments = [
            (at, "attempted", int(self.lifecycle.attempted[code])),
            (at + 300, "sent", int(self.lifecycle.sent[code])),
        ]
        if not _hits(self.lost, provider, at):
            moments.append((at + 300 + took, "delivered", int(self.lifecycle.delivered[code])))
        return moments

    def _events(
        self, moments: list[tuple[int, str, str, int, str, int]], rng: np.random.Generator
    ) -> pl.DataFrame:
        when = np.array([m[0] for m in moments], dtype=np.int64)
        ids = uuid7(when, random_bits(rng, len(when)))
        occurred, ingested = timestamps(when), timestamps(when + 120)
        values = [
            compact(
                {
                    "event_id": ids[i].tobytes().decode(),
                    "occurred_at": occurred[i].tobytes().decode(),
                    "ingested_at": ingested[i].tobytes().decode(),
                    "source": "herald.simulator", "schema_version": "1.0",
                    "tenant_id": self.options.tenant, "user_id": "canary",
                    "message_id": f"m_canary_{provider}_{at}", "campaign_id": CANARY_CAMPAIGN,
                    "provider": provider, "event_type": f"{channel}.{action}",
                }
            ).encode()
            for i, (_, channel, provider, at, action, _) in enumerate(moments)
        ]  # fmt: skip
        return pl.DataFrame(
            {
                "value": pl.Series(values, dtype=pl.Binary), "emit": pl.Series(when + 120),
                "occurred": pl.Series(when),
                "tail": pl.Series([m[5] for m in moments], dtype=pl.Int32),
            }
        ).with_columns(
            user=pl.lit(0, dtype=pl.Int64), number=pl.lit(-1, dtype=pl.Int64),
            cell=pl.lit(-1, dtype=pl.Int32),
        )  # fmt: skip


def _shuffled(before: list[str], rng: np.random.Generator) -> list[str]:
    """Every kind once; never two of a family in a row, which would be one incident."""
    while True:
        order = [str(kind) for kind in rng.permutation(list(HOURS_OF_KIND))]
        if all(_family(a) != _family(b) for a, b in pairwise([*before, *order])):
            return order


def _family(kind: str) -> str:
    return "volume" if kind in {"volume_drop", "double_send"} else kind


def _hits(planted: list[Planted], provider: str, at: int) -> bool:
    return any(p.provider == provider and p.starts_ms <= at < p.ends_ms for p in planted)


def _kept(rows: Rows4, keep: Mask) -> Rows4:
    subject, at, tail, device = rows
    return subject[keep], at[keep], tail[keep], device[keep]


def _more(rows: Rows4, subject: Ints, at: Ints, tail: npt.NDArray[Any]) -> Rows4:
    return (
        np.concatenate([rows[0], subject]),
        np.concatenate([rows[1], at.astype(np.int64)]),
        np.concatenate([rows[2], tail.astype(np.int32)]),
        np.concatenate([rows[3], np.zeros(len(subject), dtype=bool)]),
    )
