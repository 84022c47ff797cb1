"""Events of a rehearsed send, each with the time at which it happens.

`herald simulate` fills a warehouse with a past that is true to life; this makes the present: small
campaigns whose messages are targeted, sent, opened and clicked while somebody watches.
"""

from __future__ import annotations

import heapq
import json
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from math import exp

INCIDENTS = ("none", "silence", "bounces")
EVENTS_PER_MESSAGE = 4.31
"""Measured over a million messages; turns events a second into messages a second."""
MACHINE_READER_SECONDS = 1.5
"""A mailbox provider fetches images right after the delivery."""
HOUR_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class Campaign:
    """One campaign: how much of the send it is and how people answer.

    weight is relative; open, click and convert are shares of the step before.
    """

    campaign_id: str
    name: str
    channel: str
    weight: float
    open: float
    click: float
    convert: float


CAMPAIGNS = (
    Campaign("autumn-last-chance", "Autumn sale: last chance", "email", 26, 0.34, 0.17, 0.14),
    Campaign("early-access", "Early access for members", "email", 16, 0.41, 0.21, 0.18),
    Campaign("price-drop", "Price drop on your list", "push", 15, 0.19, 0.62, 0.12),
    Campaign("weekly-digest", "Weekly digest", "email", 10, 0.28, 0.11, 0.03),
    Campaign("cart-reminder", "Cart reminder", "push", 8, 0.23, 0.71, 0.21),
    Campaign("flash-24h", "Flash sale, 24 hours", "sms", 6, 0.0, 0.0, 0.0),
    Campaign("welcome", "Welcome series", "email", 5, 0.52, 0.26, 0.09),
    Campaign("order-shipped", "Order shipped", "push", 5, 0.44, 0.35, 0.01),
    Campaign("win-back", "Win-back after 60 days", "email", 4, 0.12, 0.07, 0.04),
    Campaign("points-expire", "Points expire on Sunday", "web_push", 3, 0.11, 0.5, 0.07),
    Campaign("collection-hiver", "Nouvelle collection d'hiver", "email", 2, 0.31, 0.14, 0.08),
)
VARIANTS = (("control", 50), ("subject-question", 30), ("subject-emoji", 20))
PROVIDERS = {
    "email": (("sendgrid", 60), ("ses", 40)),
    "push": (("fcm", 55), ("apns", 45)),
    "web_push": (("fcm", 100),),
    "sms": (("twilio", 65), ("vonage", 35)),
}
PLATFORMS = {
    "email": (("ios", 41), ("android", 27), ("web", 24), ("macos", 8)),
    "push": (("ios", 47), ("android", 53)),
    "web_push": (("web", 100),),
    "sms": (("ios", 52), ("android", 48)),
}
COUNTRIES = (
    *(("US", 30), ("GB", 11), ("DE", 9), ("BR", 8), ("IN", 8), ("FR", 7), ("CA", 5), ("MX", 4)),
    *(("ES", 4), ("NL", 3), ("JP", 3), ("AU", 3), ("IT", 3), ("SE", 2), ("ZA", 2), ("PL", 2)),
    *(("AT", 2), ("CH", 2), ("IE", 1), ("PT", 1), ("AR", 2), ("SG", 1)),
)


@dataclass(frozen=True, slots=True)
class Plan:
    """What to rehearse.

    rate: events a second. incident: `silence`, SendGrid takes messages and confirms none;
    `bounces`, the win-back list is bad. It begins at incident_ms (Unix ms).
    """

    tenant: str
    rate: float
    seed: int = 7
    incident: str = "none"
    incident_ms: int = 0

    def __post_init__(self) -> None:
        if self.incident not in INCIDENTS:
            raise ValueError(f"incident {self.incident!r}: known are {', '.join(INCIDENTS)}")
        if not re.fullmatch(r"[\w.-]{1,64}", self.tenant):
            raise ValueError(f"tenant {self.tenant!r}: letters, digits, dots, - and _, up to 64")


def campaign_records(tenant: str, now_ms: int) -> list[tuple[bytes, bytes]]:
    """What a campaign service would publish of the campaigns: key and JSON of each.

    The live page takes their names from here.
    """
    updated = datetime.fromtimestamp(now_ms / 1_000, UTC).isoformat(timespec="milliseconds")
    return [
        (
            one.campaign_id.encode(),
            json.dumps(
                {
                    "tenant_id": tenant,
                    "updated_at": updated.replace("+00:00", "Z"),
                    "campaign_id": one.campaign_id,
                    "name": one.name,
                    "channel": one.channel,
                    "category": "promotional",
                    "primary_conversion": "order",
                    "variants": [{"variant_id": name, "share": n / 100} for name, n in VARIANTS],
                }
            ).encode(),
        )
        for one in CAMPAIGNS
    ]


class _Choice:
    """Draws a value by weight."""

    def __init__(self, options: tuple[tuple[str, float], ...]) -> None:
        self._values = [value for value, _ in options]
        self._weights = [weight for _, weight in options]

    def draw(self, rng: random.Random) -> str:
        return rng.choices(self._values, self._weights)[0]


class Rehearsal:
    """The events of a plan, in the order in which they happen."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._rng = random.Random(f"{plan.tenant}-{plan.seed}")
        self._due: list[tuple[int, int, bytes, bytes]] = []
        self._number = 0
        self._variant = _Choice(VARIANTS)
        self._country = _Choice(COUNTRIES)
        self._provider = {channel: _Choice(options) for channel, options in PROVIDERS.items()}
        self._platform = {channel: _Choice(options) for channel, options in PLATFORMS.items()}

    def between(
        self, start_ms: int, end_ms: int, share: float = 1.0
    ) -> Iterator[tuple[int, bytes]]:
        """Events that happen in [start, end), as (Unix ms, JSON).

        Messages that start in the span and go on after it give their rest to the next call.

        Args:
            start_ms: first instant; calls go forward in time.
            end_ms: first instant after the span.
            share: of the plan's rate, as at night.
        """
        weights = [one.weight * _wave(i, start_ms, end_ms) for i, one in enumerate(CAMPAIGNS)]
        busy = sum(weights) / sum(one.weight for one in CAMPAIGNS)
        messages = self._plan.rate * share * busy * (end_ms - start_ms) / 1_000 / EVENTS_PER_MESSAGE
        rng = self._rng
        count = int(messages) + (rng.random() < messages % 1)
        starts = sorted(start_ms + rng.random() * (end_ms - start_ms) for _ in range(count))
        for start in starts:
            yield from self._happened(int(start))
            self._begin(int(start), rng.choices(CAMPAIGNS, weights)[0])
        yield from self._happened(end_ms)

    def _happened(self, until_ms: int) -> Iterator[tuple[int, bytes]]:
        while self._due and self._due[0][0] < until_ms:
            at, _, event_type, tail = heapq.heappop(self._due)
            yield at, self._event(at, event_type, tail)

    def _event(self, at: int, event_type: bytes, tail: bytes) -> bytes:
        bits = self._rng.getrandbits(72)
        # UUIDv7: the time, then chance
        event_id = (
            f"{at >> 16:08x}-{at & 0xFFFF:04x}-7{bits >> 60:03x}"
            f"-8{bits >> 48 & 0xFFF:03x}-{bits & 0xFFFFFFFFFFFF:012x}"
        )
        time = datetime.fromtimestamp(at / 1_000, UTC)
        return b'{"event_id":"%s","event_type":"%s","occurred_at":"%s.%03dZ",%s' % (
            event_id.encode(),
            event_type,
            time.strftime("%Y-%m-%dT%H:%M:%S").encode(),
            at % 1_000,
            tail,
        )

    def _add(self, at: float, channel: str, action: str, tail: bytes) -> None:
        self._number += 1
        heapq.heappush(self._due, (int(at), self._number, f"{channel}.{action}".encode(), tail))

    def _begin(self, at: int, campaign: Campaign) -> None:
        rng, plan = self._rng, self._plan
        channel = campaign.channel
        variant = self._variant.draw(rng)
        provider = self._provider[channel].draw(rng)
        number = rng.getrandbits(48)
        head = (
            f'"tenant_id":"{plan.tenant}","source":"rehearsal","user_id":"u{number % 2_000_000}",'
            f'"message_id":"m{number:012x}","campaign_id":"{campaign.campaign_id}",'
            f'"campaign_name":"{campaign.name}","variant_id":"{variant}","category":"promotional",'
            f'"channel":"{channel}","country":"{self._country.draw(rng)}",'
            f'"platform":"{self._platform[channel].draw(rng)}"'
        )
        planned = f"{head}}}".encode()
        self._add(at, channel, "targeted", planned)
        if rng.random() < 0.022:
            reason = (
                f'{head},"failure_reason":"{rng.choice(("frequency_capped", "quiet_hours"))}"}}'
            )
            self._add(at + 20, channel, "aborted", reason.encode())
            return
        head += f',"provider":"{provider}"'
        sent = at + 60 + rng.expovariate(1 / 150)
        self._add(sent - 30, channel, "attempted", f"{head}}}".encode())
        self._add(sent, channel, "sent", f'{head},"cost":0.0004,"currency":"USD"}}'.encode())
        disturbed = plan.incident != "none" and at >= plan.incident_ms
        if disturbed and plan.incident == "silence" and provider == "sendgrid":
            return
        bad_list = disturbed and plan.incident == "bounces" and campaign.campaign_id == "win-back"
        arrived = sent + 400 + rng.expovariate(1 / 1_800)
        if rng.random() < (0.31 if bad_list else 0.012):
            soft = rng.random() < 0.3
            cause = f'{head},"failure_class":"{"mailbox_full" if soft else "unknown_user"}"}}'
            self._add(arrived, channel, "soft_bounced" if soft else "bounced", cause.encode())
            return
        self._add(arrived, channel, "delivered", f"{head}}}".encode())
        self._engage(arrived, campaign, variant, f"{head}}}".encode(), head)

    def _engage(
        self, arrived: float, campaign: Campaign, variant: str, plain: bytes, head: str
    ) -> None:
        rng, channel = self._rng, campaign.channel
        if channel == "email" and rng.random() < 0.16:
            machine = f'{head},"machine_open":true}}'.encode()
            self._add(arrived + 1_000 * MACHINE_READER_SECONDS, channel, "opened", machine)
        lift = 1.18 if variant == "subject-question" else 1.0
        if rng.random() >= campaign.open * lift:
            return
        opened = arrived + 2_000 + rng.expovariate(1 / 90_000)
        self._add(opened, channel, "opened", plain)
        if rng.random() < 0.0012:
            self._add(opened + 4_000, channel, "unsubscribed", plain)
        if channel == "email" and rng.random() < 0.0006:
            self._add(opened + 3_000, channel, "marked_as_spam", plain)
        if rng.random() >= campaign.click:
            return
        clicked = opened + 1_500 + rng.expovariate(1 / 12_000)
        self._add(clicked, channel, "clicked", f'{head},"link_id":"offer"}}'.encode())
        if rng.random() < campaign.convert:
            basket = f'"revenue":{rng.lognormvariate(3.7, 0.6):.2f},"currency":"EUR"'
            value = f'{head},"conversion_name":"order",{basket}}}'
            bought = clicked + 8_000 + rng.expovariate(1 / 60_000)
            self._add(bought, channel, "converted", value.encode())


def _wave(number: int, start_ms: int, end_ms: int) -> float:
    """How busy a campaign is in a span: its audience is sent to in waves. 1 over a long time."""
    period = (290 + 47 * (number % 7)) * 1_000
    if end_ms - start_ms > period / 4:
        return 1.0
    at = ((start_ms + end_ms) / 2 / period + number * 0.37) % 1
    return 0.55 + 2.15 * exp(-(((at - 0.3) / 0.12) ** 2))


def week_share(at_ms: int) -> float:
    """How busy an hour of the week is against the busiest, 0 to 1: mornings and evenings."""
    at = datetime.fromtimestamp(at_ms / 1_000, UTC)
    morning = exp(-(((at.hour + at.minute / 60 - 9.5) / 2.6) ** 2))
    evening = 0.8 * exp(-(((at.hour + at.minute / 60 - 18) / 2.2) ** 2))
    weekday = 1.0 if at.weekday() < 5 else 0.55
    return weekday * max(0.03, morning + evening)
