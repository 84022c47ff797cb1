"""Open Bandit data: real impressions and clicks of a fashion shop, as in-app messages.

60,000 impressions of 2019 in the archive of `obp`, under two policies (uniform random and
Bernoulli Thompson sampling) and three campaigns (men, women, all). CC BY 4.0, ZOZO, Inc. Each
impression becomes `in_app.sent` and `in_app.impressed`, each click `in_app.clicked`, all at the
row's own time, as the data has one time a row. There is no user in it: `user_id` stands for a
combination of the four user features. What else the row has goes to `properties`, and so does
the logging policy's propensity.
"""

from __future__ import annotations

import hashlib
import tarfile
from pathlib import Path
from typing import Any

import polars as pl

from herald.sources.errors import SourceError
from herald.sources.imported import Imported, event_ids, record
from herald.sources.producer import Record

REQUIREMENT = "obp==0.5.7"
TENANT = "open_bandit"
CAMPAIGNS = ("all", "men", "women")
FEATURES = [f"user_feature_{i}" for i in range(4)]
COLUMNS = ["timestamp", "item_id", "position", "click", "propensity_score", *FEATURES]


def read(archive: Path, policies: list[str], limit: int = 0) -> Imported:
    """Map the archive's rows of the given policies (`random`, `bts`); limit 0 reads all.

    A limit is shared evenly between the policies' campaigns.
    """
    shares = _shares(limit, len(policies) * len(CAMPAIGNS))
    events: list[Record] = []
    campaigns: list[Record] = []
    templates: dict[str, Record] = {}
    impressions = clicks = 0
    for policy in policies:
        for campaign in CAMPAIGNS:
            share = shares.pop(0)
            rows = _rows(archive, policy, campaign)
            rows = rows.head(share) if limit else rows
            if not len(rows):
                continue
            events += _events(rows, policy, campaign)
            impressions += len(rows)
            clicks += int(rows["click"].sum())
            campaigns += _campaign(rows, policy, campaign)
            for item in sorted(rows["item_id"].unique().to_list()):
                templates[f"{campaign}-{item}"] = _template(rows, campaign, item)
    return Imported(
        "open_bandit",
        {"campaigns": campaigns, "templates": list(templates.values())},
        events,
        {"impressions": impressions, "clicks": clicks},
    )


def _shares(limit: int, parts: int) -> list[int]:
    return [limit // parts + (i < limit % parts) for i in range(parts)]


def _rows(archive: Path, policy: str, campaign: str) -> pl.DataFrame:
    inside = f"obp/dataset/obd/{policy}/{campaign}/{campaign}.csv"
    try:
        with tarfile.open(archive, "r:gz") as tar:
            member = next((m for m in tar if m.name.endswith(inside)), None)
            file = tar.extractfile(member) if member else None
            if file is None:
                raise SourceError(f"{archive} has no {inside}: it is not the archive of obp")
            frame = pl.read_csv(file.read(), columns=COLUMNS)
    except (OSError, tarfile.TarError, EOFError) as error:
        raise SourceError(
            f"{archive} cannot be read as a gzipped tar: {error}; delete it to fetch it again"
        ) from None
    except pl.exceptions.PolarsError as error:
        raise SourceError(f"{archive}: {inside} lacks columns {COLUMNS}: {error}") from None
    return (
        frame.with_columns(
            at=pl.col("timestamp").str.to_datetime("%Y-%m-%d %H:%M:%S%.f%z", time_unit="us")
        )
        .with_row_index("row")
        .with_columns(
            ms=pl.col("at").dt.epoch("ms"),
            occurred_at=pl.col("at").dt.strftime("%Y-%m-%dT%H:%M:%S%.3fZ"),
        )
    )


def _campaign_id(policy: str, campaign: str) -> str:
    return f"obd_{policy}_{campaign}"


def _template_id(campaign: str, item: int) -> str:
    return f"obd_{campaign}_item_{item}"


def _events(rows: pl.DataFrame, policy: str, campaign: str) -> list[Record]:
    """Three slots of ids a row, so that an id depends on nothing but its row and action."""
    campaign_id = _campaign_id(policy, campaign)
    times = rows["ms"].to_list()
    ids = event_ids([ms for ms in times for _ in range(3)], campaign_id)
    found: list[Record] = []
    for row in rows.iter_rows(named=True):
        position = row["row"]
        user = _user(row)
        common: dict[str, Any] = {
            "source": "open_bandit",
            "schema_version": "1.0",
            "tenant_id": TENANT,
            "occurred_at": row["occurred_at"],
            "user_id": user,
            "message_id": f"{campaign_id}_{position}",
            "campaign_id": campaign_id,
            "campaign_name": f"Open Bandit {campaign} ({policy})",
            "variant_id": f"item_{row['item_id']}",
            "template_id": _template_id(campaign, row["item_id"]),
            "category": "promotional",
            "experiment_id": f"obd_{campaign}",
            "arm": policy,
            "channel": "in_app",
            "provider": "zozotown",
            "properties": {
                "position": row["position"],
                "propensity": row["propensity_score"],
                "item_id": row["item_id"],
                **{name: row[name] for name in FEATURES},
            },
        }
        actions = ("sent", "impressed", "clicked") if row["click"] else ("sent", "impressed")
        for slot, action in enumerate(actions):
            head = {"event_id": ids[3 * position + slot], "event_type": f"in_app.{action}"}
            found.append(record(user, {**head, **common}))
    return found


def _user(row: dict[str, Any]) -> str:
    features = "/".join(str(row[name]) for name in FEATURES)
    return "obd_" + hashlib.blake2b(features.encode(), digest_size=8).hexdigest()


def _campaign(rows: pl.DataFrame, policy: str, campaign: str) -> list[Record]:
    items = sorted(rows["item_id"].unique().to_list())
    first, last = rows["occurred_at"].min(), rows["occurred_at"].max()
    key = _campaign_id(policy, campaign)
    base: dict[str, Any] = {
        "tenant_id": TENANT,
        "campaign_id": key,
        "name": f"Open Bandit {campaign} ({policy})",
        "channel": "in_app",
        "category": "promotional",
        "objective": "recommendation",
        "owner": "open_bandit",
        "primary_conversion": "",
        "variants": [
            {"variant_id": f"item_{i}", "name": f"Item {i}", "share": round(1 / len(items), 6),
             "template_id": _template_id(campaign, i)}
            for i in items
        ],
        "starts_at": first,
        "ends_at": last,
    }  # fmt: skip
    return [
        record(key, {**base, "status": "active", "updated_at": first}),
        record(key, {**base, "status": "completed", "updated_at": last}),
    ]


def _template(rows: pl.DataFrame, campaign: str, item: int) -> Record:
    key = _template_id(campaign, item)
    return record(
        key,
        {
            "tenant_id": TENANT,
            "updated_at": rows["occurred_at"].min(),
            "template_id": key,
            "name": f"Fashion item {item} ({campaign})",
            "channel": "in_app",
            "category": "promotional",
            "locale": "ja",
            "version": 1,
        },
    )
