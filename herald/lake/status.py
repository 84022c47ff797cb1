"""How the lake stands, table by table."""

from __future__ import annotations

from typing import Any

from clickhouse_connect.driver.client import Client

from herald.lake.sync import Lake
from herald.lake.tables import TABLES


def status(lake: Lake, client: Client) -> list[dict[str, Any]]:
    """A record a table: `table`, `rows`, `files`, `bytes`, `snapshots`, `waiting_ranges`."""
    result = []
    for of in TABLES:
        table = lake.table(of)
        snapshot = table.current_snapshot()
        known = snapshot.summary if snapshot is not None else None
        summary = known.additional_properties if known is not None else {}
        result.append(
            {
                "table": f"raw.{of.name}",
                "rows": int(summary.get("total-records") or 0),
                "files": int(summary.get("total-data-files") or 0),
                "bytes": int(summary.get("total-files-size") or 0),
                "snapshots": len(table.metadata.snapshots),
                "waiting_ranges": len(lake.waiting(client, of, lake.offsets(of))),
            }
        )
    return result
