"""The simulated population: who users are, and the traits that analyses have to find."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import polars as pl

from herald.simulator.catalog import CHANNELS, DEVICES, MAILBOXES, PLACES
from herald.simulator.encode import MS_PER_DAY, MS_PER_HOUR, hex16, mix64, text_matrix, timestamps
from herald.simulator.options import SimulationOptions

Floats = npt.NDArray[np.float64]

BOT_SHARE_OF_CORPORATE = 0.12
MPP_SHARE_OF_IOS = 0.62
JOINING_SHARE = 0.12
"""Share of users who sign up during the run; the others were there before."""


@dataclass(slots=True)
class Population:
    """Users by index, ordered by sign-up. Times are Unix ms; arrays are parallel.

    preferred_hour: local hour (0-24) at which a user engages most.
    affinity: shape (users, channels), mean about 1.
    engagement: multiplier of every engagement probability, mean about 1.
    churned_ms: after it the user neither engages nor visits.
    subscribed: shape (users, channels); changes as users unsubscribe.
    recent: messages of the last week, decaying; feeds fatigue.
    """

    ids: pl.Series
    device_ids: pl.Series
    key: int
    created_ms: npt.NDArray[np.int64]
    churned_ms: npt.NDArray[np.int64]
    place: npt.NDArray[np.int16]
    device: npt.NDArray[np.int16]
    mailbox: npt.NDArray[np.int16]
    zone: npt.NDArray[np.int16]
    preferred_hour: Floats
    affinity: Floats
    engagement: Floats
    is_bot: npt.NDArray[np.bool_]
    has_mpp: npt.NDArray[np.bool_]
    subscribed: npt.NDArray[np.bool_]
    recent: Floats

    def __len__(self) -> int:
        return len(self.created_ms)

    def joined(self, at_ms: int) -> int:
        """How many users have signed up by then; they are the first ones."""
        return max(1, int(np.searchsorted(self.created_ms, at_ms, side="right")))

    def id_bytes(self, users: npt.NDArray[np.int64]) -> tuple[Any, Any]:
        """Hex digits of the user and device ids of the given users, each of shape (n, 16)."""
        numbers = users.astype(np.uint64)
        return hex16(mix64(numbers, self.key)), hex16(mix64(numbers, self.key ^ 0xD1CE))


ZONES: tuple[str, ...] = tuple(dict.fromkeys(p.timezone for p in PLACES))


def zone_offsets(at_ms: int) -> npt.NDArray[np.int64]:
    """Offset from UTC of each zone at an instant, in ms."""
    at = datetime.fromtimestamp(at_ms / 1000, UTC)
    offsets = [at.astimezone(ZoneInfo(zone)).utcoffset() for zone in ZONES]
    return np.array([int(o.total_seconds() * 1000) if o else 0 for o in offsets], dtype=np.int64)


def _choose(rng: np.random.Generator, weights: list[float], n: int) -> npt.NDArray[np.int16]:
    cumulative = np.cumsum(np.asarray(weights) / np.sum(weights))
    drawn = np.searchsorted(cumulative, rng.random(n), side="right")
    return np.minimum(drawn, len(weights) - 1).astype(np.int16)


def build_population(options: SimulationOptions, rng: np.random.Generator, key: int) -> Population:
    """Draw the users of a run."""
    n = options.user_count
    span = options.end_ms - options.start_ms
    joining = rng.random(n) < JOINING_SHARE
    before = options.start_ms - rng.exponential(400 * MS_PER_DAY, n).astype(np.int64) - 1
    created = np.sort(
        np.where(joining, options.start_ms + (rng.random(n) * span).astype(np.int64), before)
    )
    created = np.maximum(created, 946_684_800_000)
    place = _choose(rng, [p.weight for p in PLACES], n)
    device = _choose(rng, [d.weight for d in DEVICES], n)
    is_ios = np.array([d.platform == "ios" for d in DEVICES])[device]
    has_app = np.array([d.platform != "web" for d in DEVICES])[device]
    mailbox = _choose(rng, list(MAILBOXES.values()), n)
    corporate = mailbox == list(MAILBOXES).index("corporate")
    peaks = np.array([7.5, 12.5, 18.0, 20.5])[_choose(rng, [0.2, 0.2, 0.25, 0.35], n)]
    engagement = rng.gamma(1.6, 1 / 1.6, n)
    affinity = rng.gamma(4.0, 0.25, (n, len(CHANNELS)))
    # The less engaged leave sooner: a hazard of 0.4% to 2% a day.
    life = rng.exponential(1.0, n) / (0.004 + 0.016 * np.exp(-1.5 * engagement))
    lived_from = np.maximum(created, options.start_ms)
    zone_of_place = np.array([ZONES.index(p.timezone) for p in PLACES], dtype=np.int16)
    subscribed = np.empty((n, len(CHANNELS)), dtype=bool)
    for i, share in enumerate((0.86, 0.68, 0.34, 1.0)):
        subscribed[:, i] = rng.random(n) < share
    subscribed[:, 1] &= has_app
    subscribed[:, 3] &= has_app
    population = Population(
        ids=pl.Series(dtype=pl.String), device_ids=pl.Series(dtype=pl.String), key=key,
        created_ms=created,
        churned_ms=lived_from + (life * MS_PER_DAY).astype(np.int64),
        place=place, device=device, mailbox=mailbox, zone=zone_of_place[place],
        preferred_hour=(peaks + rng.normal(0, 1.5, n)) % 24,
        affinity=affinity, engagement=engagement,
        is_bot=corporate & (rng.random(n) < BOT_SHARE_OF_CORPORATE),
        has_mpp=is_ios & ~corporate & (rng.random(n) < MPP_SHARE_OF_IOS),
        subscribed=subscribed, recent=np.zeros(n),
    )  # fmt: skip
    users, devices = population.id_bytes(np.arange(n))
    population.ids = text_matrix(n, ["u_", users])
    population.device_ids = text_matrix(n, ["d_", devices])
    return population


def user_records(
    population: Population, options: SimulationOptions, rng: np.random.Generator
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Reference records of every user: key and record, as of the later of sign-up and start."""
    sources = ("organic", "paid_search", "paid_social", "referral", "partner")
    source = _choose(rng, [40, 22, 20, 12, 6], len(population))
    updated = np.maximum(population.created_ms, options.start_ms - 30 * MS_PER_DAY)
    stamps = [timestamps(ms).tobytes().decode() for ms in (population.created_ms, updated)]
    mailboxes = list(MAILBOXES)
    for i, user_id in enumerate(population.ids):
        place, device = PLACES[population.place[i]], DEVICES[population.device[i]]
        email, push, sms, _ = (bool(x) for x in population.subscribed[i])
        yield (
            user_id,
            {
                "tenant_id": options.tenant,
                "updated_at": stamps[1][24 * i : 24 * i + 24],
                "user_id": user_id,
                "created_at": stamps[0][24 * i : 24 * i + 24],
                "timezone": place.timezone,
                "country": place.country,
                "locale": place.locale,
                "platform": device.platform,
                "device_class": device.device_class,
                "mailbox_provider": mailboxes[population.mailbox[i]],
                "acquisition_channel": sources[source[i]],
                "is_email_subscribed": email,
                "is_push_subscribed": push,
                "is_sms_subscribed": sms,
            },
        )


def local_hours(
    population: Population, users: npt.NDArray[np.int64], at_ms: npt.NDArray[np.int64]
) -> Floats:
    """Local hour of day, 0 to 24, of each user at each time."""
    offsets = zone_offsets(int(at_ms[0]))[population.zone[users]] if len(at_ms) else 0
    return ((at_ms + offsets) % MS_PER_DAY) / MS_PER_HOUR


def trait_frame(population: Population, initial: npt.NDArray[np.bool_]) -> pl.DataFrame:
    """The planted traits, one row a user, to check an analysis against."""
    return pl.DataFrame(
        {
            "user_id": population.ids,
            "preferred_hour": population.preferred_hour,
            "engagement": population.engagement,
            **{f"affinity_{c}": population.affinity[:, i] for i, c in enumerate(CHANNELS)},
            **{f"subscribed_{c}_at_start": initial[:, i] for i, c in enumerate(CHANNELS)},
            **{f"subscribed_{c}_at_end": population.subscribed[:, i]
               for i, c in enumerate(CHANNELS)},
            "created_at": pl.Series(population.created_ms).cast(pl.Datetime("ms", "UTC")),
            "churned_at": pl.Series(population.churned_ms).cast(pl.Datetime("ms", "UTC")),
            "is_bot": population.is_bot,
            "has_mail_privacy_protection": population.has_mpp,
        }
    )  # fmt: skip
