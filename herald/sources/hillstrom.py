"""MineThatData e-mail trial: 64,000 customers, a men's e-mail, a women's e-mail, or none.

The file says who was assigned what, and who visited, bought and spent in the two weeks after. It
has no dates, no deliveries, no opens and no clicks, so none are made up: times are nominal
(`SENT_AT` and after), a send is `email.sent`, a visit of the site is `app.session_started` and
not a click, a purchase is `email.converted` with its spend. The arm without e-mail is the
holdout: targeted, then aborted, and its purchases carry `is_holdout`.
"""

from __future__ import annotations

import gzip
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from herald.sources.errors import SourceError
from herald.sources.imported import Imported, event_ids, record
from herald.sources.producer import Record

TENANT = "hillstrom"
CAMPAIGN = "hillstrom_2008"
SENT_AT = datetime(2008, 3, 3, 12, 0, tzinfo=UTC)
"""Nominal: the file has no dates; the challenge was published in March 2008."""
VISIT_AFTER, CONVERSION_AFTER = timedelta(days=1), timedelta(days=1, hours=1)
END_AT = SENT_AT + timedelta(days=14)

ARMS = {"Mens E-Mail": "mens", "Womens E-Mail": "womens", "No E-Mail": "holdout"}
TRAITS = ("recency", "history_segment", "history", "mens", "womens", "zip_code", "newbie")
COLUMNS = [*TRAITS, "channel", "treatment", "conversion", "visit", "spend"]
SLOTS = 4
"""Most events a customer has; ids are numbered by customer and slot."""


def read(path: Path, limit: int = 0) -> Imported:
    """Map the file's customers; limit 0 reads all."""
    rows = _rows(path)
    rows = rows.head(limit) if limit else rows
    moments = [SENT_AT, SENT_AT + timedelta(seconds=1), SENT_AT + VISIT_AFTER,
               SENT_AT + CONVERSION_AFTER]  # fmt: skip
    ms = [int(m.timestamp() * 1000) for m in moments]
    ids = event_ids(ms * len(rows), TENANT)
    times = [_text(m) for m in moments]
    events: list[list[Record]] = [[] for _ in range(SLOTS)]
    for number, row in enumerate(rows.iter_rows(named=True)):
        arm = ARMS[row["treatment"]]
        user = f"hil_{number + 1:05d}"
        common = _common(user, arm, number, row)

        def add(slot: int, event_type: str, fields: dict[str, Any], number: int = number) -> None:
            head = {"event_id": ids[SLOTS * number + slot], "event_type": event_type,
                    "occurred_at": times[slot]}  # fmt: skip
            events[slot].append(record(str(fields["user_id"]), {**head, **fields}))

        add(0, "email.targeted", common)
        if arm == "holdout":
            add(1, "email.aborted", {**common, "failure_reason": "holdout"})
        else:
            add(1, "email.sent", common)
        if row["visit"]:
            who = ("source", "schema_version", "tenant_id", "user_id", "properties")
            add(2, "app.session_started", {k: common[k] for k in who})
        if row["conversion"]:
            value = {"conversion_name": "purchase", "revenue": row["spend"], "currency": "USD"}
            add(3, "email.converted", {**common, **value})
    counts = rows["treatment"].value_counts()
    mapped = {
        "customers": len(rows),
        **{f"arm_{ARMS[t]}": n for t, n in sorted(counts.iter_rows())},
        "visits": int(rows["visit"].sum()),
        "conversions": int(rows["conversion"].sum()),
    }
    flat = [event for slot in events for event in slot]
    return Imported("hillstrom", {"campaigns": _campaign()}, flat, mapped)


def _rows(path: Path) -> pl.DataFrame:
    try:
        data = path.read_bytes()
        text = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    except FileNotFoundError:
        raise SourceError(f"{path} does not exist") from None
    except (OSError, EOFError) as error:
        raise SourceError(f"{path} cannot be read: {error}") from None
    try:
        frame = pl.read_csv(text, infer_schema_length=None)
    except pl.exceptions.PolarsError as error:
        raise SourceError(f"{path} is not a CSV file: {error}") from None
    if missing := [c for c in COLUMNS if c not in frame.columns]:
        raise SourceError(f"{path} lacks columns {', '.join(missing)}: not the Hillstrom file")
    known = list(ARMS)
    if strange := sorted(set(frame["treatment"].unique()) - set(known), key=str):
        raise SourceError(f"{path}: treatment {strange[0]!r} is none of {', '.join(known)}")
    return frame


def _common(user: str, arm: str, number: int, row: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "source": "hillstrom",
        "schema_version": "1.0",
        "tenant_id": TENANT,
        "user_id": user,
        "message_id": f"hillstrom_{number + 1:05d}",
        "campaign_id": CAMPAIGN,
        "campaign_name": "MineThatData e-mail trial",
        "category": "promotional",
        "experiment_id": "hillstrom",
        "arm": arm,
        "channel": "email",
        "properties": {**{t: row[t] for t in TRAITS}, "purchase_channel": row["channel"],
                       "nominal_dates": True},
    }  # fmt: skip
    return {**found, "is_holdout": True} if arm == "holdout" else {**found, "variant_id": arm}


def _campaign() -> list[Record]:
    base: dict[str, Any] = {
        "tenant_id": TENANT,
        "campaign_id": CAMPAIGN,
        "name": "MineThatData e-mail trial",
        "channel": "email",
        "category": "promotional",
        "objective": "revenue",
        "owner": "hillstrom",
        "primary_conversion": "purchase",
        "conversion_window_hours": 336,
        "holdout_share": 0.3333,
        "variants": [
            {"variant_id": "mens", "name": "Men's e-mail", "share": 0.5},
            {"variant_id": "womens", "name": "Women's e-mail", "share": 0.5},
        ],
        "starts_at": _text(SENT_AT),
        "ends_at": _text(END_AT),
    }
    return [
        record(CAMPAIGN, {**base, "status": "active", "updated_at": _text(SENT_AT)}),
        record(CAMPAIGN, {**base, "status": "completed", "updated_at": _text(END_AT)}),
    ]


def _text(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%S.000Z")
