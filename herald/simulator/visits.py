"""Sessions, purchases and other events of users that belong to no message."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from herald.simulator.campaigns import HOURS
from herald.simulator.catalog import CHANNELS
from herald.simulator.encode import MS_PER_HOUR, Ints
from herald.simulator.engagement import PRICE_POINTS, Engaged, prices
from herald.simulator.messages import Messages
from herald.simulator.rows import Tails
from herald.simulator.users import Population, local_hours

ORGANIC_SESSIONS_PER_MESSAGE = 0.3
P_PURCHASE = 0.02
P_UNINSTALL = 0.25
"""Of users who churn; the others just stay away."""


@dataclass(slots=True)
class Visits:
    """Events outside messages: number in the run, user, time and tail."""

    number: Ints
    user: Ints
    at_ms: Ints
    tail: npt.NDArray[np.int32]


class VisitMaker:
    """Draws visits that nobody caused, and turns caused ones into sessions."""

    def __init__(self, tails: Tails) -> None:
        self.session = tails.code("app.session_started")
        self.uninstalled = tails.code("app.uninstalled")
        self.purchased = np.array(
            [
                tails.code("app.purchased", conversion_name="booking", revenue=p, currency="USD")
                for p in prices(110.0)
            ]
        )
        self.unsubscribed = np.array(
            [
                tails.code("app.subscription_changed",
                           properties={"channel": c, "state": "unsubscribed"})
                for c in CHANNELS
            ]
        )  # fmt: skip
        self._count = 0

    def run(
        self,
        m: Messages,
        engaged: Engaged,
        population: Population,
        block: tuple[int, int],
        rng: np.random.Generator,
    ) -> Visits:
        """All events outside messages that start in the block or follow from its messages."""
        parts: list[tuple[Ints, Ints, npt.NDArray[np.int32]]] = []

        def add(user: Ints, at: Ints, tail: int | npt.NDArray[np.int64]) -> None:
            tails = np.broadcast_to(np.asarray(tail, dtype=np.int32), len(user))
            parts.append((user, at, tails))

        for index, at in (*engaged.visits, engaged.influenced):
            add(m.user[index], at, self.session)
        index, at = engaged.unsubscribed
        add(m.user[index], at + 400, self.unsubscribed[m.channel[index]])
        user, at = self._organic(population, block, len(m), rng)
        add(user, at, self.session)
        bought = rng.random(len(user)) < P_PURCHASE
        price = self.purchased[rng.integers(0, PRICE_POINTS, int(bought.sum()))]
        add(user[bought], at[bought] + rng.integers(60_000, MS_PER_HOUR, len(price)), price)
        churned = population.churned_ms
        left = np.flatnonzero((churned >= block[0]) & (churned < block[1]))
        left = left[rng.random(len(left)) < P_UNINSTALL]
        add(left, churned[left], self.uninstalled)
        users, ats, tail = (np.concatenate([p[i] for p in parts]) for i in range(3))
        number = self._count + np.arange(len(users))
        self._count += len(users)
        return Visits(number, users.astype(np.int64), ats.astype(np.int64), tail.astype(np.int32))

    def _organic(
        self,
        population: Population,
        block: tuple[int, int],
        messages: int,
        rng: np.random.Generator,
    ) -> tuple[Ints, Ints]:
        """Engaged users come more often, at the hours at which people are awake."""
        count = round(messages * ORGANIC_SESSIONS_PER_MESSAGE * 4)
        user = rng.integers(0, population.joined(block[0]), count)
        at = block[0] + (rng.random(count) * (block[1] - block[0])).astype(np.int64)
        weight = np.array(HOURS["activity"]) / max(HOURS["activity"])
        hour = local_hours(population, user, at).astype(np.int64) if count else user
        chance = weight[hour] * np.minimum(population.engagement[user], 3) / 1.5
        kept = (rng.random(count) < chance) & (population.churned_ms[user] > at)
        return user[kept], at[kept]
