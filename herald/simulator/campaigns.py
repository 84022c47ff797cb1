"""Campaigns, their variants, holdouts and planted lifts, and the journeys they belong to."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from herald.simulator.encode import MS_PER_DAY, MS_PER_HOUR
from herald.simulator.options import SimulationOptions

WAVE_DAYS = 21
"""Promotions are planned in waves of this length."""

HOURS: dict[str, tuple[float, ...]] = {
    "activity": (1, .6, .4, .3, .4, .8, 2, 4, 5, 5, 4.5, 5, 6, 5.5, 5, 4.5, 5, 6, 7, 8, 8, 7, 5, 2),
    "morning": (0, 0, 0, 0, 0, .1, .6, 3, 8, 9, 6, 2, .5, .2, .1, 0, 0, 0, 0, 0, 0, 0, 0, 0),
    "noon": (0, 0, 0, 0, 0, 0, 0, 0, .2, .6, 2, 6, 9, 6, 2, .6, .2, 0, 0, 0, 0, 0, 0, 0),
    "evening": (0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, .1, .2, .5, 1, 3, 6, 8, 9, 6, 3, .8, .1),
    "spread": (0, 0, 0, 0, 0, 0, .5, 3, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 3, 1, .3),
}  # fmt: skip
"""Weight of each local hour of the day."""

WEEKDAYS: dict[str, tuple[float, ...]] = {
    "all": (1.0, 1.0, 1.0, 1.0, 1.1, 0.85, 0.75),
    "weekend": (0.05, 0.05, 0.1, 0.4, 1.6, 1.4, 0.8),
    "tuesday_thursday": (0.1, 1.6, 0.4, 1.4, 0.2, 0.05, 0.05),
}
"""Weight of each local weekday, Monday first."""


@dataclass(frozen=True, slots=True)
class Blueprint:
    """How a kind of campaign behaves. Rates of a whole life cycle come from its channel.

    weight: share of the daily messages. follows: (blueprint key, hours) of the journey step
    before. revenue: mean US dollars of a conversion, 0 where it carries no value.
    """

    key: str
    name: str
    theme: str
    channel: str
    category: str
    objective: str
    owner: str
    hours: str
    weight: float
    weekdays: str = "all"
    variants: int = 1
    holdout: float = 0.0
    conversion: str = "booking"
    revenue: float = 120.0
    journey: str = ""
    follows: tuple[str, int] | None = None
    wave: bool = False


BLUEPRINTS: tuple[Blueprint, ...] = (
    Blueprint("receipt", "Order receipt", "order_receipt", "email", "transactional", "service",
              "payments", "activity", 8),
    Blueprint("code", "Security code", "security_code", "sms", "transactional", "service",
              "identity", "activity", 3, conversion="sign_in", revenue=0),
    Blueprint("trip_push", "Trip reminder", "trip_reminder", "push", "transactional", "service",
              "operations", "morning", 7, conversion="check_in", revenue=0),
    Blueprint("trip_sms", "Trip reminder by text", "trip_reminder", "sms", "transactional",
              "service", "operations", "evening", 2, conversion="check_in", revenue=0),
    Blueprint("rate", "How was your stay", "rate_us", "in_app", "engagement", "feedback",
              "product", "activity", 5, conversion="review", revenue=0),
    Blueprint("feature", "Plan together", "new_feature", "in_app", "engagement", "adoption",
              "product", "activity", 6, variants=2, holdout=.1, conversion="wish_list", revenue=0),
    Blueprint("welcome_1", "Onboarding 1: welcome", "welcome", "email", "lifecycle", "activation",
              "growth", "activity", 6, variants=2, journey="onboarding", revenue=90),
    Blueprint("welcome_2", "Onboarding 2: first search", "new_feature", "push", "lifecycle",
              "activation", "growth", "activity", 0, journey="onboarding",
              follows=("welcome_1", 24), revenue=90),
    Blueprint("welcome_3", "Onboarding 3: first offer", "weekend_sale", "email", "lifecycle",
              "activation", "growth", "activity", 0, variants=2, journey="onboarding",
              follows=("welcome_2", 72), revenue=90),
    Blueprint("cart_1", "Cart 1: nudge", "abandoned_cart", "push", "lifecycle", "recovery",
              "growth", "spread", 6, variants=2, holdout=.1, journey="cart", revenue=140),
    Blueprint("cart_2", "Cart 2: reminder", "abandoned_cart", "email", "lifecycle", "recovery",
              "growth", "spread", 0, variants=2, journey="cart", follows=("cart_1", 24),
              revenue=140),
    Blueprint("back_1", "Win back 1: miss you", "win_back", "email", "lifecycle", "retention",
              "crm", "spread", 4, variants=2, holdout=.1, journey="win_back", revenue=110),
    Blueprint("back_2", "Win back 2: last call", "win_back", "sms", "lifecycle", "retention",
              "crm", "noon", 0, journey="win_back", follows=("back_1", 72), revenue=110),
    Blueprint("sale_email", "Weekend sale", "weekend_sale", "email", "promotional", "revenue",
              "marketing", "morning", 14, "weekend", variants=3, holdout=.05, revenue=160,
              wave=True),
    Blueprint("sale_push", "Weekend sale push", "weekend_sale", "push", "promotional", "revenue",
              "marketing", "evening", 10, "weekend", variants=2, holdout=.05, revenue=130,
              wave=True),
    Blueprint("sale_sms", "Flash sale text", "weekend_sale", "sms", "promotional", "revenue",
              "marketing", "noon", 4, "weekend", variants=2, holdout=.1, revenue=130, wave=True),
    Blueprint("drop_push", "Price drop alert", "price_drop", "push", "promotional", "revenue",
              "marketing", "spread", 12, variants=2, holdout=.1, revenue=180, wave=True),
    Blueprint("drop_email", "Price drop digest", "price_drop", "email", "promotional", "revenue",
              "marketing", "evening", 7, variants=2, revenue=180, wave=True),
    Blueprint("news", "Travel letter", "newsletter", "email", "newsletter", "reach", "editorial",
              "morning", 16, "tuesday_thursday", variants=2, revenue=80, wave=True),
    Blueprint("points_email", "Points balance", "loyalty", "email", "promotional", "loyalty",
              "crm", "noon", 6, variants=2, holdout=.1, revenue=100, wave=True),
    Blueprint("points_app", "Points banner", "loyalty", "in_app", "promotional", "loyalty", "crm",
              "activity", 6, variants=2, revenue=100, wave=True),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Variant:
    """One version of a campaign. Lifts multiply the probabilities of the first variant."""

    variant_id: str
    name: str
    share: float
    open_lift: float = 1.0
    click_lift: float = 1.0
    conversion_lift: float = 1.0


@dataclass(frozen=True, slots=True)
class Campaign:
    """One campaign of a run; `number` is its index. Times are Unix ms."""

    number: int
    campaign_id: str
    name: str
    blueprint: Blueprint
    variants: tuple[Variant, ...]
    starts_ms: int
    ends_ms: int
    fixed_cost: float
    base_open: float
    base_click: float
    previous: int = -1
    delay_ms: int = 0

    @property
    def experiment_id(self) -> str:
        """Set where there is something to compare."""
        compares = len(self.variants) > 1 or self.blueprint.holdout > 0
        return f"exp_{self.campaign_id[4:]}" if compares else ""

    @property
    def links(self) -> tuple[str, ...]:
        """Addresses of its links; security scanners follow all of them."""
        pages = ("offer", "details", "account", "help")
        many = 4 if self.blueprint.channel == "email" else 1
        slug = self.campaign_id[4:].replace("_", "-")
        return tuple(f"https://go.example.com/{slug}/{page}" for page in pages[:many])


@dataclass(frozen=True, slots=True)
class Cell:
    """Where messages are counted: a campaign's variant, or its held-out users."""

    campaign: Campaign
    variant: Variant | None

    @property
    def arm(self) -> str:
        """Arm of the experiment."""
        return self.variant.variant_id if self.variant else "holdout"


@dataclass(slots=True)
class Plan:
    """All campaigns of a run and the cells their messages are counted in."""

    campaigns: list[Campaign]
    cells: list[Cell] = field(default_factory=list)
    first_cell: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        for campaign in self.campaigns:
            self.first_cell.append(len(self.cells))
            self.cells += [Cell(campaign, v) for v in campaign.variants]
            self.cells.append(Cell(campaign, None))


def build_plan(options: SimulationOptions, rng: np.random.Generator) -> Plan:
    """Lay out the campaigns of a run: those always on, and waves of promotions."""
    campaigns: list[Campaign] = []
    numbers: dict[str, int] = {}
    days = (options.end_ms - options.start_ms) / MS_PER_DAY
    for blueprint in BLUEPRINTS:
        waves = max(1, math.ceil(days / WAVE_DAYS)) if blueprint.wave else 1
        for wave in range(waves):
            number = len(campaigns)
            numbers[blueprint.key] = number
            campaigns.append(_campaign(options, rng, blueprint, number, wave, waves, numbers))
    return Plan(campaigns)


def _campaign(
    options: SimulationOptions,
    rng: np.random.Generator,
    blueprint: Blueprint,
    number: int,
    wave: int,
    waves: int,
    numbers: dict[str, int],
) -> Campaign:
    starts, ends = options.start_ms - 60 * MS_PER_DAY, options.end_ms + 90 * MS_PER_DAY
    if blueprint.wave:
        starts = options.start_ms + wave * WAVE_DAYS * MS_PER_DAY
        ends = starts + WAVE_DAYS * MS_PER_DAY
        if wave == waves - 1:
            ends = max(ends, options.end_ms + 3 * MS_PER_DAY)
    lifts = np.round(rng.uniform(0.85, 1.45, (blueprint.variants, 3)), 3)
    letters = "abc"[: blueprint.variants]
    previous, delay = -1, 0
    if blueprint.follows:
        previous, delay = numbers[blueprint.follows[0]], blueprint.follows[1] * MS_PER_HOUR
    label = f" {wave + 1}" if waves > 1 else ""
    return Campaign(
        number=number,
        campaign_id=f"cmp_{blueprint.key}" + (f"_{wave + 1:02d}" if blueprint.wave else ""),
        name=blueprint.name + label,
        blueprint=blueprint,
        variants=tuple(
            Variant(v, "Control" if i == 0 else f"Variant {v.upper()}", 1 / blueprint.variants,
                    *((1.0, 1.0, 1.0) if i == 0 else map(float, lifts[i])))
            for i, v in enumerate(letters)
        ),
        starts_ms=int(starts), ends_ms=int(ends),
        fixed_cost=float(np.round(rng.uniform(80, 900), 2)) if blueprint.wave else 0.0,
        base_open=float(np.round(rng.uniform(0.8, 1.25), 3)),
        base_click=float(np.round(rng.uniform(0.8, 1.25), 3)),
        previous=previous, delay_ms=delay,
    )  # fmt: skip
