"""From target to delivery: eligibility, aborts, holdouts, outages, bounces."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from herald.simulator.campaigns import Plan
from herald.simulator.catalog import CHANNELS, COSTS, MAILBOXES, PLACES, ROUTES
from herald.simulator.encode import MS_PER_HOUR, Ints
from herald.simulator.messages import EMAIL, IN_APP, PUSH, SMS, Messages
from herald.simulator.rows import Rows, Tails
from herald.simulator.users import Floats, Population, local_hours

Mask = npt.NDArray[np.bool_]

ABORTS_BEFORE_ELIGIBLE = {"ineligible": 0.008, "unsubscribed": 0.005, "duplicate_identifier": 0.002}
ABORTS_BEFORE_ATTEMPT = {"render_error": 0.0008, "expired": 0.0015}
ABORTS_AFTER_ATTEMPT = {
    "rate_limited": 0.001, "invalid_credentials": 0.0004, "provider_timeout": 0.0008,
}  # fmt: skip
FREQUENCY_CAP = 8.0
"""Messages in a week, decayed, beyond which promotions are capped half of the time."""

# Of what was sent, by channel: e-mail, push, SMS, in-app.
P_BOUNCED = np.array([0.009, 0.014, 0.012, 0.0])
P_SOFT = np.array([0.008, 0.0, 0.0, 0.0])
P_DEFERRED = np.array([0.012, 0.0, 0.0, 0.0])
P_FAILED = np.array([0.0, 0.006, 0.018, 0.0])
P_SILENT = np.array([0.0, 0.010, 0.015, 0.0])
"""Accepted by the provider and never confirmed."""

P_FAIL_IN_OUTAGE = 0.85
P_BLOCK_IN_INCIDENT = 0.6

BOUNCES: dict[str, tuple[tuple[str, str, str], ...]] = {
    "email": (
        ("hard", "mailbox does not exist", "550 5.1.1"),
        ("hard", "domain not found", "550 5.1.2"),
        ("block", "message rejected as spam", "554 5.7.1"),
    ),
    "push": (("hard", "device token not registered", "UNREGISTERED"),),
    "sms": (
        ("hard", "unknown subscriber", "30005"),
        ("block", "carrier violation", "30007"),
    ),
}


@dataclass(frozen=True, slots=True)
class Incident:
    """A planted outage. kind `provider`: most attempts fail; `block`: a mailbox bounces a pool."""

    kind: str
    channel: str
    provider: str
    ip_pool: str
    mailbox_provider: str
    starts_ms: int
    ends_ms: int


@dataclass(slots=True)
class Outcome:
    """What became of each message. delivered_ms is also set for in-app messages shown."""

    sent_ms: Ints
    delivered_ms: Ints
    is_sent: Mask
    is_delivered: Mask


class Lifecycle:
    """Runs messages from target to delivery."""

    def __init__(self, plan: Plan, tails: Tails, incidents: list[Incident]) -> None:
        self.incidents = incidents
        blueprints = [c.blueprint for c in plan.campaigns]
        self.may_cap = np.array([b.category != "transactional" for b in blueprints])
        self.is_quiet = self.may_cap & np.array([b.channel in ("push", "sms") for b in blueprints])
        self.targeted = self._per_channel(tails, "targeted")
        self.eligible = self._per_channel(tails, "eligible")
        self.attempted = self._per_channel(tails, "attempted", attempt=1)
        self.delivered = self._per_channel(tails, "delivered")
        self.failed = self._per_channel(
            tails, "failed", failure_class="technical", failure_reason="provider unavailable",
            provider_code="503", attempt=1,
        )  # fmt: skip
        self.undeliverable = self._per_channel(
            tails, "failed", failure_class="technical", failure_reason="delivery failed",
            provider_code="30008", attempt=1,
        )  # fmt: skip
        reasons = [
            "holdout", "frequency_capped", "quiet_hours", *ABORTS_BEFORE_ELIGIBLE,
            *ABORTS_BEFORE_ATTEMPT, *ABORTS_AFTER_ATTEMPT,
        ]  # fmt: skip
        self.aborted = {r: self._per_channel(tails, "aborted", failure_reason=r) for r in reasons}
        sms = [
            tails.code("sms.sent", attempt=1, cost=p.sms_cost, currency="USD") for p in PLACES
        ]  # fmt: skip
        self.sent_sms = np.array(sms)
        self.sent = np.array(
            [
                tails.code(
                    f"{c}.sent", attempt=1, cost=COSTS.get(c), currency="USD" if c in COSTS else ""
                )
                for c in CHANNELS
            ]
        )
        self.bounced = {
            CHANNELS.index(c): np.array(
                [
                    tails.code(
                        f"{c}.bounced", failure_class=kind, failure_reason=why, provider_code=code
                    )
                    for kind, why, code in rows
                ]
            )
            for c, rows in BOUNCES.items()
        }
        self.soft = tails.code(
            "email.soft_bounced", failure_class="soft", failure_reason="mailbox full",
            provider_code="452 4.2.2",
        )  # fmt: skip
        self.deferred = tails.code(
            "email.deferred", failure_class="soft", failure_reason="try again later",
            provider_code="421 4.7.0",
        )  # fmt: skip
        self.blocked = tails.code(
            "email.bounced", failure_class="block", failure_reason="address pool blocked",
            provider_code="550 5.7.1",
        )  # fmt: skip

    @staticmethod
    def _per_channel(tails: Tails, action: str, **fields: Any) -> Ints:
        return np.array([tails.code(f"{c}.{action}", **fields) for c in CHANNELS])

    def run(
        self, m: Messages, population: Population, rows: Rows, rng: np.random.Generator
    ) -> Outcome:
        """Add every event up to delivery and say what became of each message."""
        n = len(m)
        every = np.arange(n)
        at = m.at_ms
        rows.add(every, at, self.targeted[m.channel])
        alive = ~m.is_holdout
        held = every[m.is_holdout]
        rows.add(held, at[held] + 40, self.aborted["holdout"][m.channel[held]])
        alive = self._abort(m, rows, alive, at + 60, ABORTS_BEFORE_ELIGIBLE, rng)
        eligible_at = at + rng.integers(80, 900, n)
        rows.add(every[alive], eligible_at[alive], self.eligible[m.channel[alive]])
        alive = self._cap(m, population, rows, alive, eligible_at + 15, rng)
        alive = self._abort(m, rows, alive, eligible_at + 30, ABORTS_BEFORE_ATTEMPT, rng)
        attempted_at = eligible_at + rng.integers(50, 4_000, n)
        rows.add(every[alive], attempted_at[alive], self.attempted[m.channel[alive]])
        alive = self._outages(m, rows, alive, attempted_at, rng)
        alive = self._abort(m, rows, alive, attempted_at + 700, ABORTS_AFTER_ATTEMPT, rng)
        sent_at = attempted_at + rng.integers(20, 900, n)
        tail = np.where(
            m.channel == SMS, self.sent_sms[population.place[m.user]], self.sent[m.channel]
        )
        rows.add(every[alive], sent_at[alive], tail[alive])
        delivered, delivered_at = self._deliver(m, population, rows, alive, sent_at, rng)
        return Outcome(sent_at, delivered_at, alive, delivered)

    def _abort(
        self,
        m: Messages,
        rows: Rows,
        alive: Mask,
        at: Ints,
        reasons: dict[str, float],
        rng: np.random.Generator,
    ) -> Mask:
        draw = rng.random(len(m))
        low = 0.0
        for reason, share in reasons.items():
            gone = np.flatnonzero(alive & (draw >= low) & (draw < low + share))
            rows.add(gone, at[gone], self.aborted[reason][m.channel[gone]])
            low += share
        survivors: Mask = alive & (draw >= low)
        return survivors

    def _cap(
        self,
        m: Messages,
        population: Population,
        rows: Rows,
        alive: Mask,
        at: Ints,
        rng: np.random.Generator,
    ) -> Mask:
        draw = rng.random(len(m))
        often = population.recent[m.user] > FREQUENCY_CAP
        capped = alive & self.may_cap[m.campaign] & (draw < np.where(often, 0.5, 0.003))
        hour = local_hours(population, m.user, m.at_ms)
        night = (hour < 8) | (hour >= 22)
        quiet = alive & ~capped & night & self.is_quiet[m.campaign] & (draw > 0.4)
        for mask, reason in ((capped, "frequency_capped"), (quiet, "quiet_hours")):
            gone = np.flatnonzero(mask)
            rows.add(gone, at[gone], self.aborted[reason][m.channel[gone]])
        survivors: Mask = alive & ~capped & ~quiet
        return survivors

    def _outages(
        self,
        m: Messages,
        rows: Rows,
        alive: Mask,
        at: Ints,
        rng: np.random.Generator,
    ) -> Mask:
        hit = np.zeros(len(m), dtype=bool)
        for incident in self.incidents:
            if incident.kind == "provider":
                routes = np.array([r.provider == incident.provider for r in ROUTES])
                hit |= routes[m.route] & (at >= incident.starts_ms) & (at < incident.ends_ms)
        failed = alive & hit
        failed &= rng.random(len(m)) < P_FAIL_IN_OUTAGE
        gone = np.flatnonzero(failed)
        rows.add(gone, at[gone] + 10_000, self.failed[m.channel[gone]])
        rows.add(gone, at[gone] + 10_050, self.aborted["provider_timeout"][m.channel[gone]])
        return alive & ~failed

    def _deliver(
        self,
        m: Messages,
        population: Population,
        rows: Rows,
        sent: Mask,
        at: Ints,
        rng: np.random.Generator,
    ) -> tuple[Mask, Ints]:
        n, c = len(m), m.channel
        draw, which = rng.random(n), rng.random(n)
        latency = np.exp(rng.normal(np.array([7.2, 6.2, 7.8, 5.5])[c], 0.7, n)).astype(np.int64)
        latency = np.minimum(latency, MS_PER_HOUR) + 1
        blocked = sent & self._blocked(m, population, at) & (which < P_BLOCK_IN_INCIDENT)
        rows.add(np.flatnonzero(blocked), (at + latency)[blocked], self.blocked)
        open_ = sent & ~blocked
        edges = np.cumsum(
            [P_BOUNCED[c], P_FAILED[c], P_SILENT[c], P_SOFT[c], P_DEFERRED[c]], axis=0
        )
        bounced = open_ & (draw < edges[0])
        for channel, tails in self.bounced.items():
            gone = np.flatnonzero(bounced & (c == channel))
            tail = tails[(which[gone] * len(tails)).astype(np.int64)]
            rows.add(gone, at[gone] + latency[gone], tail)
        failed = np.flatnonzero(open_ & (draw >= edges[0]) & (draw < edges[1]))
        rows.add(failed, at[failed] + latency[failed], self.undeliverable[c[failed]])
        soft = open_ & (draw >= edges[2]) & (draw < edges[3])
        deferred = open_ & (draw >= edges[3]) & (draw < edges[4])
        rows.add(np.flatnonzero(soft), (at + latency)[soft], self.soft)
        rows.add(np.flatnonzero(deferred), (at + latency)[deferred], self.deferred)
        later = np.where(soft | deferred, rng.integers(MS_PER_HOUR // 6, 5 * MS_PER_HOUR, n), 0)
        delivered = open_ & (draw >= edges[2]) & ~(soft & (which < 0.45))
        delivered_at = at + latency + later
        told = np.flatnonzero(delivered & (c != IN_APP))
        rows.add(told, delivered_at[told], self.delivered[c[told]])
        return delivered, delivered_at

    def _blocked(self, m: Messages, population: Population, at: Ints) -> Mask:
        hit = np.zeros(len(m), dtype=bool)
        for incident in self.incidents:
            if incident.kind == "block":
                pools = np.array([r.ip_pool == incident.ip_pool for r in ROUTES])
                box = list(MAILBOXES).index(incident.mailbox_provider)
                hit |= (
                    (m.channel == EMAIL) & pools[m.route] & (population.mailbox[m.user] == box)
                    & (at >= incident.starts_ms) & (at < incident.ends_ms)
                )  # fmt: skip
        return hit


def plan_incidents(start_ms: int, end_ms: int, rng: np.random.Generator) -> list[Incident]:
    """Three outages at hours drawn in [start, end); shorter runs have shorter ones."""
    span = end_ms - start_ms
    specs = (
        ("provider", "email", "sendgrid", "", "", 3 * MS_PER_HOUR),
        ("provider", "push", "fcm", "", "", 2 * MS_PER_HOUR),
        ("block", "email", "sendgrid", "dedicated-promo-1", "yahoo", 24 * MS_PER_HOUR),
    )
    incidents = []
    for kind, channel, provider, pool, mailbox, length in specs:
        lasts = min(length, span // 8)
        begins = start_ms + int(rng.uniform(0.2, 0.8) * (span - lasts))
        incidents.append(
            Incident(kind, channel, provider, pool, mailbox, begins, begins + lasts)
        )  # fmt: skip
    return incidents


def fatigue(population: Population, user: Ints) -> Floats:
    """Multiplier of engagement: each message of the last week costs 3%."""
    return np.exp(-0.03 * population.recent[user])


__all__ = ["IN_APP", "PUSH", "Incident", "Lifecycle", "Outcome", "fatigue", "plan_incidents"]
