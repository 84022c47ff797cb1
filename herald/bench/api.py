"""How quickly the API answers: `api_p99_ms`, over HTTP, against a running platform."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import httpx

from herald.bench.rows import BenchRow, row
from herald.settings import Settings
from herald.warehouse.client import connect

ASKERS = 4
METRICS = ("sends", "delivery_rate", "unique_open_rate__human", "roi")
DIMENSIONS = ("", "campaign", "channel,country")
GRAINS = ("none", "day")


class ApiBenchError(Exception):
    """Nothing could be measured; the message says why."""


def run_api_bench(settings: Settings, requests: int) -> BenchRow:
    """Ask dashboard questions from four clients at once; each question is new once, then repeated.

    Raises:
        ApiBenchError: the marts are empty, or an answer was an error.
    """
    paths = _questions(settings)
    each = max(1, requests // ASKERS)
    headers = {"Authorization": f"Bearer {settings.api.password.get_secret_value()}"}

    def ask(number: int) -> list[float]:
        found = []
        with httpx.Client(base_url=settings.api.url, headers=headers, timeout=60) as client:
            for n in range(each):
                path = paths[(n + number) % len(paths)]
                started = time.perf_counter()
                answer = client.get(path)
                found.append((time.perf_counter() - started) * 1000)
                if answer.status_code != httpx.codes.OK:
                    raise ApiBenchError(f"{path}: {answer.status_code} {answer.text[:300]}")
        return found

    try:
        with ThreadPoolExecutor(ASKERS) as threads:
            took = sorted(ms for found in threads.map(ask, range(ASKERS)) for ms in found)
    except httpx.TransportError as error:
        raise ApiBenchError(f"the API at {settings.api.url} does not answer: {error}") from error
    p50, p99 = took[len(took) // 2], took[int(len(took) * 0.99)]
    detail = (
        f"{len(took)} requests from {ASKERS} clients, {len(paths)} different questions, "
        f"p50 {p50:.1f} ms, slowest {took[-1]:.1f} ms"
    )
    return row("api_p99_ms", p99, detail)


def _questions(settings: Settings) -> list[str]:
    client = connect(settings.warehouse, "reader")
    found = client.query(
        "select tenant_id, toDate(min(hour_at)), toDate(max(hour_at)) + 1 "
        "from marts.fct_engagement_hourly group by tenant_id order by sum(sends) desc limit 1"
    ).result_rows
    client.close()
    if not found:
        raise ApiBenchError("the marts are empty: `make demo`, or land events and build them")
    tenant, first, after = found[0]
    base = {"tenant": tenant, "from": str(first), "to": str(after)}
    return [
        str(
            httpx.URL(
                f"/v1/metrics/{metric}", params=base | {"dimensions": dimensions, "grain": grain}
            )
        )
        for metric, dimensions, grain in product(METRICS, DIMENSIONS, GRAINS)
    ]
