"""Reference records: what the campaign, template, journey and user services publish."""

from __future__ import annotations

from typing import Any

import numpy as np

from herald.simulator.campaigns import BLUEPRINTS, Campaign, Plan
from herald.simulator.encode import MS_PER_DAY, MS_PER_HOUR, timestamps
from herald.simulator.messages import template_id
from herald.simulator.options import SimulationOptions
from herald.simulator.texts import LANGUAGES, words

Record = tuple[str, dict[str, Any]]
"""Key and value of one record."""


def stamp(ms: int) -> str:
    """RFC 3339 text of a Unix time in ms."""
    return timestamps(np.array([ms], dtype=np.int64)).tobytes().decode()


def campaign_records(options: SimulationOptions, plan: Plan) -> list[Record]:
    """Every version of every campaign that exists at the end of the run, oldest first."""
    found: list[tuple[int, Record]] = []
    for campaign in plan.campaigns:
        found += _campaign_versions(options, campaign)
    found.sort(key=lambda version: version[0])
    return [record for at, record in found if at < options.end_ms]


def _campaign_versions(options: SimulationOptions, campaign: Campaign) -> list[tuple[int, Record]]:
    blueprint = campaign.blueprint
    base = {
        "tenant_id": options.tenant,
        "campaign_id": campaign.campaign_id,
        "name": campaign.name,
        "channel": blueprint.channel,
        "category": blueprint.category,
        "objective": blueprint.objective,
        "owner": blueprint.owner,
        "template_id": template_id(blueprint.theme, blueprint.channel, 0, "en"),
        "journey_id": f"jrn_{blueprint.journey}" if blueprint.journey else "",
        "primary_conversion": blueprint.conversion,
        "conversion_window_hours": 168,
        "holdout_share": blueprint.holdout,
        "variants": [
            {
                "variant_id": v.variant_id,
                "name": v.name,
                "share": round(v.share, 4),
                "template_id": template_id(blueprint.theme, blueprint.channel, i, "en"),
            }
            for i, v in enumerate(campaign.variants)
        ],
        "starts_at": stamp(campaign.starts_ms),
        "ends_at": stamp(campaign.ends_ms),
        "fixed_cost": campaign.fixed_cost,
        "currency": "USD",
    }
    versions: list[tuple[int, dict[str, Any]]] = [
        (campaign.starts_ms - 6 * MS_PER_DAY, {"status": "draft", "fixed_cost": 0.0}),
        (campaign.starts_ms - 2 * MS_PER_DAY, {"status": "scheduled"}),
        (campaign.starts_ms, {"status": "active"}),
        (campaign.ends_ms, {"status": "completed"}),
    ]
    if campaign.number % 7 == 3:
        middle = (campaign.starts_ms + min(campaign.ends_ms, options.end_ms)) // 2
        versions.insert(3, (middle, {"status": "paused"}))
        versions.insert(4, (middle + 2 * MS_PER_HOUR, {"status": "active", "owner": "crm"}))
    return [
        (at, (campaign.campaign_id, {**base, **change, "updated_at": stamp(at)}))
        for at, change in versions
    ]


def template_records(options: SimulationOptions) -> list[Record]:
    """Every template in every language; the second variants were edited during the run."""
    found: dict[str, list[Record]] = {}
    created = options.start_ms - 70 * MS_PER_DAY
    edited = options.start_ms + (options.end_ms - options.start_ms) // 3
    for blueprint in BLUEPRINTS:
        for variant in range(blueprint.variants):
            for language in LANGUAGES:
                text = words(blueprint.theme, language)
                key = template_id(blueprint.theme, blueprint.channel, variant, language)
                record = {
                    "tenant_id": options.tenant,
                    "updated_at": stamp(created),
                    "template_id": key,
                    "name": f"{blueprint.theme} {'ABC'[variant]} ({language})",
                    "channel": blueprint.channel,
                    "category": blueprint.category,
                    "locale": language,
                    "subject": text.subject(variant),
                    "body": text.body,
                    "call_to_action": text.call_to_action,
                    "version": 1,
                }
                found[key] = [(key, record)]
                if variant == 1:
                    edit = {"updated_at": stamp(edited), "version": 2,
                            "body": f"{text.body} {text.subject_b}."}  # fmt: skip
                    found[key].append((key, {**record, **edit}))
    return [record for versions in found.values() for record in versions]


def journey_records(options: SimulationOptions) -> list[Record]:
    """Every journey with its steps, in order."""
    journeys: dict[str, list[dict[str, Any]]] = {}
    for blueprint in BLUEPRINTS:
        if blueprint.journey:
            steps = journeys.setdefault(blueprint.journey, [])
            steps.append(
                {
                    "journey_step_id": f"step_{blueprint.key}",
                    "channel": blueprint.channel,
                    "delay_hours": blueprint.follows[1] if blueprint.follows else 0,
                }
            )
    return [
        (
            f"jrn_{name}",
            {
                "tenant_id": options.tenant,
                "updated_at": stamp(options.start_ms - 65 * MS_PER_DAY),
                "journey_id": f"jrn_{name}",
                "name": name.replace("_", " ").capitalize(),
                "status": "active",
                "steps": steps,
            },
        )
        for name, steps in journeys.items()
    ]
