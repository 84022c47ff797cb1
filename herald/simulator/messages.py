"""Which messages go to whom and when, and the JSON that its events share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum

import numpy as np
import numpy.typing as npt
import polars as pl

from herald.simulator.campaigns import HOURS, WEEKDAYS, Plan
from herald.simulator.catalog import CHANNELS, DEVICES, MAILBOXES, PLACES, ROUTES
from herald.simulator.encode import (
    MS_PER_DAY,
    MS_PER_HOUR,
    Bytes,
    Ints,
    fragment,
    hex16,
    mix64,
    text_matrix,
)
from herald.simulator.options import SimulationOptions
from herald.simulator.texts import LANGUAGES, words
from herald.simulator.users import ZONES, Floats, Population, zone_offsets

EMAIL, PUSH, SMS, IN_APP = range(len(CHANNELS))


@dataclass(slots=True)
class Messages:
    """Messages of one block: parallel arrays. number is unique in the run, from 0."""

    number: Ints
    user: Ints
    campaign: Ints
    cell: Ints
    channel: Ints
    route: Ints
    at_ms: Ints
    is_holdout: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.number)


class Scheduler:
    """Draws messages block by block, in proportion to campaign, time zone and local hour."""

    def __init__(self, options: SimulationOptions, plan: Plan, population: Population) -> None:
        self.options, self.plan, self.population = options, plan, population
        blueprints = [c.blueprint for c in plan.campaigns]
        self.channel = np.array([CHANNELS.index(b.channel) for b in blueprints])
        hours = np.array([HOURS[b.hours] for b in blueprints])
        self.hours = hours / hours.sum(axis=1, keepdims=True)
        self.weekdays = np.array([WEEKDAYS[b.weekdays] for b in blueprints])
        self.weekdays /= self.weekdays.mean(axis=1, keepdims=True)
        self.weight = np.array([b.weight for b in blueprints])
        self.starts = np.array([c.starts_ms for c in plan.campaigns])
        self.ends = np.array([c.ends_ms for c in plan.campaigns])
        self.first_cell = np.array(plan.first_cell)
        self.variants = np.array([len(c.variants) for c in plan.campaigns])
        self.holdout = np.array([b.holdout for b in blueprints])
        self.zone_share = np.bincount(population.zone, minlength=len(ZONES)) / len(population)
        self.routes = [
            np.flatnonzero([r.channel == channel for r in ROUTES]) for channel in CHANNELS
        ]
        self.is_ios = np.array([d.platform == "ios" for d in DEVICES])
        self._due: list[tuple[Ints, Ints, Ints]] = []
        self._count = 0

    def slots(self, begin_ms: int, end_ms: int) -> Floats:
        """Weight of each campaign, zone and hour of [begin, end): shape (C, Z, H)."""
        slots = np.arange(begin_ms, end_ms, MS_PER_HOUR)
        local = slots[None, :] + zone_offsets(begin_ms)[:, None] + MS_PER_HOUR // 2
        hour = (local % MS_PER_DAY) // MS_PER_HOUR
        weekday = (local // MS_PER_DAY + 3) % 7
        active = (slots >= self.starts[:, None]) & (slots < self.ends[:, None])
        shape: Floats = self.hours[:, hour] * self.weekdays[:, weekday]
        weighed: Floats = shape * (active * self.weight[:, None])[:, None, :]
        return weighed

    def block_weight(self, begin_ms: int, end_ms: int) -> float:
        """Expected share of messages of a block, on the same scale for every block."""
        return float((self.slots(begin_ms, end_ms) * self.zone_share[None, :, None]).sum())

    def draw(self, begin_ms: int, end_ms: int, count: int, rng: np.random.Generator) -> Messages:
        """Messages of [begin, end): `count` newly drawn, and the journey steps that are due."""
        campaign, user, at = self._drawn(begin_ms, end_ms, count, rng)
        due_campaign, due_user, due_at = self._take_due(end_ms)
        campaign = np.concatenate([campaign, due_campaign])
        user = np.concatenate([user, due_user])
        at = np.concatenate([at, due_at])
        # A user hears from a campaign once a block.
        _, kept = np.unique(user * len(self.plan.campaigns) + campaign, return_index=True)
        campaign, user, at = campaign[kept], user[kept], at[kept]
        number = self._count + np.arange(len(user))
        self._count += len(user)
        draw = (
            mix64((user * 1009 + campaign).astype(np.uint64), self.population.key ^ 0xA11)
            >> np.uint64(11)
        ).astype(np.float64) / 2.0**53
        holdout = draw < self.holdout[campaign]
        share = (draw - self.holdout[campaign]) / (1 - self.holdout[campaign])
        variant = np.floor(np.clip(share, 0, 0.999999) * self.variants[campaign]).astype(np.int64)
        cell = self.first_cell[campaign] + np.where(holdout, self.variants[campaign], variant)
        channel = self.channel[campaign]
        return Messages(
            number, user, campaign, cell, channel, self._route(channel, user, campaign, rng),
            at, holdout,
        )  # fmt: skip

    def queue(self, campaign: Ints, user: Ints, at_ms: Ints) -> None:
        """Plan journey steps for later blocks."""
        self._due.append((campaign, user, at_ms))

    def _drawn(
        self, begin_ms: int, end_ms: int, count: int, rng: np.random.Generator
    ) -> tuple[Ints, Ints, Ints]:
        weights = self.slots(begin_ms, end_ms)
        joined = self.population.joined(begin_ms)
        zone = self.population.zone[:joined]
        by_channel = []
        for channel in range(len(CHANNELS)):
            audience = np.flatnonzero(self.population.subscribed[:joined, channel])
            by_zone = audience[np.argsort(zone[audience], kind="stable")]
            sizes = np.bincount(zone[audience], minlength=len(ZONES))
            by_channel.append((by_zone, sizes, np.cumsum(sizes) - sizes))
        sizes_of = np.array([by_channel[c][1] for c in self.channel])
        cumulative = np.cumsum(weights * sizes_of[:, :, None])
        if not count or cumulative[-1] <= 0:
            empty = np.empty(0, dtype=np.int64)
            return empty, empty, empty
        picked = np.searchsorted(cumulative, rng.random(count) * cumulative[-1], side="right")
        campaign, picked_zone, slot = np.unravel_index(
            np.minimum(picked, len(cumulative) - 1), weights.shape
        )
        user = np.empty(count, dtype=np.int64)
        place = rng.random(count)
        for channel, (by_zone, sizes, first) in enumerate(by_channel):
            mine = self.channel[campaign] == channel
            z = picked_zone[mine]
            user[mine] = by_zone[first[z] + (place[mine] * sizes[z]).astype(np.int64)]
        at = begin_ms + slot * MS_PER_HOUR + (rng.random(count) * MS_PER_HOUR).astype(np.int64)
        return campaign, user, at

    def _take_due(self, end_ms: int) -> tuple[Ints, Ints, Ints]:
        if not self._due:
            empty = np.empty(0, dtype=np.int64)
            return empty, empty, empty
        campaign, user, at = (
            np.concatenate([d[i] for d in self._due]) for i in range(3)
        )  # fmt: skip
        now = at < end_ms
        self._due = [(campaign[~now], user[~now], at[~now])]
        return campaign[now], user[now], at[now]

    def _route(self, channel: Ints, user: Ints, campaign: Ints, rng: np.random.Generator) -> Ints:
        draw = rng.random(len(channel))
        route = np.empty(len(channel), dtype=np.int64)
        for code, choices in enumerate(self.routes):
            mine = channel == code
            weights = np.cumsum([ROUTES[i].weight for i in choices])
            picked = np.searchsorted(weights / weights[-1], draw[mine], side="right")
            route[mine] = choices[np.minimum(picked, len(choices) - 1)]
        push = channel == PUSH
        ios = self.is_ios[self.population.device[user[push]]]
        route[push] = np.where(ios, self.routes[PUSH][0], self.routes[PUSH][1])
        return route


class Knower(IntEnum):
    """Who reports an event of a message, and so what the event can say (decision 0034)."""

    PLANNER = 0
    """Chose the user: campaign, experiment, place and kind of device from the profile."""
    GATE = 1
    """Let the message pass or stopped it."""
    RENDERER = 2
    """Handed the rendered message over: template, subject, provider."""
    DELIVERER = 3
    """Talks to the provider and hears from it: route and mailbox."""
    CLIENT = 4
    """App, page or link server: the device as it is."""

    @classmethod
    def of(cls, event_type: str) -> Knower:
        """Who reports events of a type."""
        action = event_type.partition(".")[2]
        return _KNOWERS.get(action, cls.CLIENT)


_KNOWERS = {
    "targeted": Knower.PLANNER,
    "eligible": Knower.GATE,
    "aborted": Knower.GATE,
    "sent": Knower.RENDERER,
    **dict.fromkeys(
        ("attempted", "delivered", "bounced", "soft_bounced", "deferred", "failed",
         "marked_as_spam"),
        Knower.DELIVERER,
    ),
}  # fmt: skip

_PLACE = {
    Knower.PLANNER: ("timezone", "country", "region"),
    Knower.GATE: ("timezone", "country"),
    Knower.RENDERER: ("timezone", "country", "locale"),
    Knower.CLIENT: ("timezone", "country", "region", "city", "locale"),
}
_DEVICE = {
    Knower.PLANNER: ("platform", "device_class"),
    Knower.GATE: ("platform", "device_class"),
    Knower.RENDERER: ("platform", "device_class"),
    Knower.CLIENT: ("platform", "device_class", "device_model", "os_version", "app_version"),
}
_CAMPAIGN = {
    Knower.PLANNER: ("campaign_name", "journey_id", "journey_step_id", "category",
                     "experiment_id", "arm"),
    Knower.RENDERER: ("campaign_name", "category", "experiment_id", "arm", "template_id",
                      "subject"),
}  # fmt: skip
_ROUTED = (Knower.RENDERER, Knower.DELIVERER)


class Fragments:
    """Builds the members that events of a message share, by who reports them, and of visits."""

    def __init__(self, options: SimulationOptions, plan: Plan, population: Population) -> None:
        self.population, self.plan = population, plan
        self.constant = fragment(
            {"source": "herald.simulator", "schema_version": "1.0", "tenant_id": options.tenant}
        )
        self.message_key = population.key ^ 0x4E55A6E
        self.session_key = population.key ^ 0x5E5510
        places = [{"timezone": p.timezone, "country": p.country, "region": p.region,
                   "city": p.city, "locale": p.locale} for p in PLACES]  # fmt: skip
        self.places = {k: _texts(places, names) for k, names in _PLACE.items()}
        devices = [{"platform": d.platform, "device_class": d.device_class,
                    "device_model": d.model, "os_version": d.os_version,
                    "app_version": d.app_version} for d in DEVICES]  # fmt: skip
        self.devices = {k: _texts(devices, names) for k, names in _DEVICE.items()}
        self.mailboxes = pl.Series([fragment({"mailbox_provider": m}) for m in MAILBOXES] + [""])
        routes = [{"provider": r.provider, "ip_pool": r.ip_pool} for r in ROUTES]
        self.routes = _texts(routes, ("provider", "ip_pool"))
        language = [LANGUAGES.index(p.language) for p in PLACES]
        self.language = np.array(language)
        cells = [
            _cell_fields(plan, cell, lang) for cell in range(len(plan.cells)) for lang in LANGUAGES
        ]
        always = ("campaign_id", "variant_id", "is_holdout")
        self.cells = {
            k: pl.Series(
                [
                    fragment({n: v for n, v in cell.items() if n in always + _CAMPAIGN.get(k, ())
                              or (n == "arm" and "is_holdout" in cell)})
                    for cell in cells
                ]
            )
            for k in Knower
        }  # fmt: skip

    def message_ids(self, number: Ints) -> Bytes:
        """Hex digits of message ids, shape (n, 16)."""
        return hex16(mix64(number.astype(np.uint64), self.message_key))

    def of_messages(self, messages: Messages) -> pl.Series:
        """Texts of the messages of a block: all of the first knower, then of the second, ..."""
        user = messages.user
        place, device = self.population.place[user], self.population.device[user]
        mailbox = np.where(messages.channel == EMAIL, self.population.mailbox[user], len(MAILBOXES))
        users, devices = self.population.id_bytes(user)
        head = ['"user_id":"u_', users, '","message_id":"m_', self.message_ids(messages.number)]
        ids = text_matrix(len(messages), [*head, '",'])
        ids_here = text_matrix(len(messages), [*head, '","device_id":"d_', devices, '",'])
        cell = messages.cell * len(LANGUAGES) + self.language[place]
        sends = self._sends(messages)
        texts = []
        for knower in Knower:
            parts = [ids_here if knower is Knower.CLIENT else ids, self.cells[knower].gather(cell)]
            if knower in _PLACE:
                parts.append(self.places[knower].gather(place))
                parts.append(self.devices[knower].gather(device))
            if knower in _ROUTED:
                parts.append(self.mailboxes.gather(mailbox))
                parts.append(self.routes.gather(messages.route))
            if knower in _CAMPAIGN:
                parts.append(sends)
            texts.append(_concat(*parts, constant=self.constant))
        return pl.concat(texts)

    def of_visits(self, number: Ints, user: Ints) -> pl.Series:
        """Text of visits, and of other events that belong to no message."""
        users, devices = self.population.id_bytes(user)
        sessions = hex16(mix64(number.astype(np.uint64), self.session_key))
        ids = text_matrix(
            len(user),
            ['"user_id":"u_', users, '","device_id":"d_', devices, '","session_id":"s_', sessions,
             '",'],
        )  # fmt: skip
        return _concat(
            ids,
            self.places[Knower.CLIENT].gather(self.population.place[user]),
            self.devices[Knower.CLIENT].gather(self.population.device[user]),
            constant=self.constant,
        )

    def _sends(self, messages: Messages) -> pl.Series:
        day = messages.at_ms // MS_PER_DAY
        launches, launch = np.unique(messages.campaign * 100_000 + day, return_inverse=True)
        return pl.Series([self._send(int(c)) for c in launches], dtype=pl.String).gather(launch)

    def _send(self, code: int) -> str:
        campaign = self.plan.campaigns[code // 100_000].campaign_id
        day = datetime.fromtimestamp(code % 100_000 * 86_400, UTC)
        return fragment({"send_id": f"snd_{campaign[4:]}_{day:%Y%m%d}"})


def template_id(theme: str, channel: str, variant: int, language: str) -> str:
    """Id of a template."""
    return f"tpl_{theme}_{channel}_{'abc'[variant]}_{language}"


def _cell_fields(plan: Plan, index: int, language: str) -> dict[str, object]:
    cell = plan.cells[index]
    campaign, blueprint = cell.campaign, cell.campaign.blueprint
    fields: dict[str, object] = {
        "campaign_id": campaign.campaign_id,
        "campaign_name": campaign.name,
        "journey_id": f"jrn_{blueprint.journey}" if blueprint.journey else "",
        "journey_step_id": f"step_{blueprint.key}" if blueprint.journey else "",
        "category": blueprint.category,
        "experiment_id": campaign.experiment_id,
        "arm": cell.arm if campaign.experiment_id else "",
    }
    if cell.variant is None:
        return {**fields, "is_holdout": True}
    number = campaign.variants.index(cell.variant)
    return {
        **fields,
        "variant_id": cell.variant.variant_id,
        "template_id": template_id(blueprint.theme, blueprint.channel, number, language),
        "subject": words(blueprint.theme, language).subject(number),
    }


def _texts(rows: Iterable[Mapping[str, str]], names: Sequence[str]) -> pl.Series:
    return pl.Series([fragment({n: row[n] for n in names}) for row in rows], dtype=pl.String)


def _concat(*parts: pl.Series, constant: str) -> pl.Series:
    frame = pl.DataFrame({str(i): part for i, part in enumerate(parts)})
    return frame.select(
        pl.concat_str(pl.lit(constant), *frame.columns, ignore_nulls=False)
    ).to_series()
