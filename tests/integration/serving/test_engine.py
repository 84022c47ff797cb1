"""The engine on a real warehouse and a real Valkey, with numbers worked out by hand."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client

from herald.engine.audit import Audit, Entry
from herald.engine.cache import Cache, Shared
from herald.engine.engine import AnalyticsEngine
from herald.engine.errors import (
    BusyError,
    CursorExpiredError,
    InvalidQueryError,
    NotBuiltError,
    QueryTimeoutError,
    TooExpensiveError,
    TooManyRowsError,
    UnavailableError,
    WarehouseRefusedError,
)
from herald.engine.pool import Limits, Pool
from herald.engine.query import Query
from herald.metrics.registry import exposed
from herald.settings import Settings
from infra.local import valkey as valkey_service
from tests.data.marts import add_messages, message

Engines = Callable[..., AnalyticsEngine]


def at(day: int, hour: int = 0, minute: int = 0) -> datetime:
    return datetime(2026, 11, day, hour, minute, tzinfo=UTC)


def ask(*metrics: str, **values: Any) -> Query:
    base = {"tenant_id": "acme", "metrics": metrics, "start": at(1), "end": at(3)}
    return Query.model_validate(base | values)


def rows(engine: AnalyticsEngine, *metrics: str, **values: Any) -> list[dict[str, Any]]:
    return engine.answer(ask(*metrics, **values), principal="admin").rows


def test_values_are_the_hand_computed_ones_when_asked_for_everything(engines: Engines) -> None:
    names = ("sends", "deliveries", "delivery_rate", "unique_opens", "unique_opens__human")
    names += ("unique_open_rate", "conversion_rate", "unique_recipients", "revenue", "cost", "roi")
    names += ("abort_rate", "total_open_rate", "read_rate")
    assert rows(engines(), *names) == [
        {
            "sends": 7,  # s1-s4, a1, p1, p2
            "deliveries": 6,
            "delivery_rate": 6 / 7,  # e-mail (5 sends - 1 bounce) + 2 of 2 push
            "unique_opens": 4,
            "unique_opens__human": 3,
            "unique_open_rate": 4 / 6,
            "conversion_rate": 2 / 7,  # 6 users of e-mail and push + 1 impression
            "unique_recipients": 7,  # s4 went to the user of s1; i1 was seen
            "revenue": 35.0,
            "cost": 4.0,
            "roi": 31 / 4,
            "abort_rate": 1 / 9,
            "total_open_rate": 1.0,  # p1 influenced, p2 direct, of 2 deliveries
            "read_rate": None,
        }
    ]


def test_every_exposed_metric_compiles_when_run_over_each_source(engines: Engines) -> None:
    engine = engines()
    names = [e.name for e in exposed()]
    for half in (names[:40], names[40:]):
        hourly = rows(engine, *half)
        by_message = rows(engine, *half, start=at(1, 0, 1))  # off the hour: fct_messages
        assert hourly == by_message
        assert len(rows(engine, *half, scope="event")) == 1


def test_groups_are_split_and_ordered_when_dimensions_are_given(engines: Engines) -> None:
    found = rows(
        engines(), "sends", dimensions=["campaign", "country"], order=["-sends", "country"]
    )
    assert [(r["campaign"], r["country"], r["sends"]) for r in found] == [
        ("spring", "DE", 3),
        ("taps", "IN", 2),
        ("autumn", "", 1),
        ("spring", "FR", 1),
        ("banner", "", 0),
    ]


def test_days_are_local_when_time_zone_is_given(engines: Engines) -> None:
    engine = engines()
    days = rows(engine, "sends", grain="day", time_zone="Europe/Berlin")
    # a1 left at 23:30 UTC: 2 November in Berlin
    assert [(r["time"], r["sends"]) for r in days] == [
        ("2026-11-01T00:00:00+01:00", 4),
        ("2026-11-02T00:00:00+01:00", 3),
    ]
    kolkata = rows(engine, "sends", grain="day", time_zone="Asia/Kolkata")
    assert [(r["time"], r["sends"]) for r in kolkata] == [
        ("2026-11-01T00:00:00+05:30", 4),
        ("2026-11-02T00:00:00+05:30", 3),
    ]


def test_hours_and_weeks_hold_what_was_sent_in_them_when_grain_is_given(engines: Engines) -> None:
    engine = engines()
    hours = rows(engine, "sends", grain="hour", end=at(1, 12))
    assert [(r["time"][11:13], r["sends"]) for r in hours] == [("08", 0), ("09", 2), ("10", 1)]
    weeks = rows(engine, "sends", grain="week")
    # 1 November 2026 is a Sunday
    assert [(r["time"][:10], r["sends"]) for r in weeks] == [("2026-10-26", 5), ("2026-11-02", 2)]


def test_scopes_differ_when_things_happen_later(engines: Engines) -> None:
    engine = engines()
    first_day = {"start": at(1), "end": at(2)}
    assert rows(engine, "unique_opens", **first_day) == [{"unique_opens": 2}]
    assert rows(engine, "unique_opens", scope="event", **first_day) == [{"unique_opens": 0}]
    later = rows(engine, "unique_opens", scope="event", start=at(2), end=at(5))
    assert later == [{"unique_opens": 4}]


def test_filters_keep_and_drop_when_given(engines: Engines) -> None:
    engine = engines()
    german = [{"dimension": "country", "values": ["DE", "XX"]}]
    assert rows(engine, "sends", filters=german) == [{"sends": 3}]
    no_email = [{"dimension": "channel", "op": "not_in", "values": ["email"]}]
    assert rows(engine, "sends", filters=no_email) == [{"sends": 2}]
    nowhere = [{"dimension": "country", "values": [""]}]
    assert rows(engine, "sends", filters=nowhere) == [{"sends": 1}]


def test_nothing_matches_when_a_filter_value_is_sql(engines: Engines) -> None:
    evil = [{"dimension": "campaign", "values": ["x') or 1=1 --", "\\", "'"]}]
    assert rows(engines(), "sends", filters=evil) == [{"sends": 0}]
    assert rows(engines(), "sends", tenant_id="acme' or '1'='1") == [{"sends": 0}]


def test_other_tenant_is_never_read_when_asked_for_one(engines: Engines) -> None:
    engine = engines()
    assert rows(engine, "sends", tenant_id="globex") == [{"sends": 1}]
    campaigns = rows(engine, "sends", dimensions=["campaign"], tenant_id="globex")
    assert campaigns == [{"campaign": "spring", "sends": 1}]


def test_previous_period_stands_beside_when_compared(engines: Engines) -> None:
    engine = engines()
    day = {"start": at(2), "end": at(3), "compare": "previous"}
    assert rows(engine, "sends", **day) == [{"sends": 2, "sends__previous": 5}]
    by_campaign = rows(engine, "sends", dimensions=["campaign"], **day)
    assert by_campaign == [
        {"campaign": "spring", "sends": 1, "sends__previous": 3},
        {"campaign": "taps", "sends": 1, "sends__previous": 1},
    ]
    hours = rows(engine, "sends", grain="hour", **day)
    assert [(r["time"][11:13], r["sends"], r["sends__previous"]) for r in hours] == [
        ("09", 1, 2),
        ("12", 1, 1),
    ]


def test_answer_says_what_it_is_when_read(engines: Engines) -> None:
    answer = engines().answer(ask("delivery_rate", dimensions=["channel"]), principal="admin")
    assert answer.scope_label == "sent in range"
    assert answer.data_as_of == datetime(2026, 11, 20, 12, tzinfo=UTC)
    assert [(c.name, c.kind) for c in answer.columns] == [
        ("channel", "dimension"),
        ("delivery_rate", "metric"),
    ]
    assert answer.columns[1].definition_version.startswith("1-")


def test_pages_fit_together_when_values_tie(engines: Engines) -> None:
    engine = engines(page_rows=2)
    seen: list[tuple[str, str]] = []
    cursor = None
    for _ in range(5):
        page = engine.answer(
            ask("aborts", dimensions=["campaign", "country"], order=["aborts"], cursor=cursor),
            principal="admin",
        )
        assert len(page.rows) <= 2
        seen += [(r["campaign"], r["country"]) for r in page.rows]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert len(seen) == len(set(seen)) == 5
    assert seen[-1] == ("spring", "DE")


def test_answer_is_cut_and_says_so_when_above_the_row_limit(engines: Engines) -> None:
    engine = engines(max_rows=3)
    answer = engine.answer(ask("sends", dimensions=["campaign", "country"]), principal="admin")
    assert len(answer.rows) == 3
    assert answer.truncated
    assert answer.next_cursor is None
    with pytest.raises(InvalidQueryError, match="at most 3"):
        engine.answer(ask("sends", limit=4), principal="admin")


def test_stream_yields_every_row_when_within_the_limit(engines: Engines) -> None:
    query = ask("sends", dimensions=["campaign", "country"], grain="day")
    engine = engines()
    streamed = list(engine.stream(query, principal="admin"))
    assert streamed == engine.answer(query, principal="admin").rows
    assert len(streamed) == 7


def test_stream_ends_in_an_error_when_above_the_limit(engines: Engines) -> None:
    found = engines(max_rows=2).stream(ask("sends", dimensions=["campaign"]), principal="admin")
    assert next(found)
    assert next(found)
    with pytest.raises(TooManyRowsError, match="more than 2 rows"):
        next(found)


def test_answer_comes_from_each_level_when_asked_again(engines: Engines) -> None:
    query = ask("sends", dimensions=["platform"])
    first, second = engines(), engines()
    assert first.answer(query, principal="admin").cache == "computed"
    assert first.answer(query, principal="admin").cache == "process"
    assert second.answer(query, principal="admin").cache == "shared"


def test_answer_is_new_and_cursor_expires_when_data_changes(
    engines: Engines, writer: Client
) -> None:
    tenant = {"tenant_id": "changing", "dimensions": ["campaign"]}
    add_messages(
        writer,
        [
            message(f"c{n}", "sent", at=at(1), tenant_id="changing", campaign_id=f"{n}")
            for n in range(3)
        ],
    )
    engine = engines(page_rows=2)
    page = engine.answer(ask("sends", **tenant), principal="admin")
    add_messages(writer, [message("c9", "sent", at=at(1), tenant_id="changing", campaign_id="0")])
    time.sleep(1.1)  # the state of the marts is looked up once a second
    again = engine.answer(ask("sends", **tenant), principal="admin")
    assert again.cache == "computed"
    assert again.data_version != page.data_version
    assert again.rows[0] == {"campaign": "0", "sends": 2}
    with pytest.raises(CursorExpiredError, match="start again"):
        engine.answer(ask("sends", cursor=page.next_cursor, **tenant), principal="admin")


def test_one_engine_computes_when_two_are_asked_at_once(served: Settings) -> None:
    """Two caches share only Valkey, as two processes do."""
    url = valkey_service.url(served.valkey)
    calls: list[int] = []
    start = threading.Barrier(2)

    def slow() -> bytes:
        calls.append(1)
        time.sleep(0.4)
        return b"answer"

    def get(_: int) -> tuple[bytes, str]:
        shared = Shared(url)
        cache = Cache(shared, entries=10, seconds=30, wait_seconds=10)
        start.wait()
        try:
            return cache.get("both", slow)
        finally:
            shared.close()

    with ThreadPoolExecutor(2) as threads:
        found = list(threads.map(get, range(2)))
    assert len(calls) == 1
    assert sorted(level for _, level in found) == ["computed", "joined"]
    assert {value for value, _ in found} == {b"answer"}


def test_other_computes_when_the_first_one_fails(served: Settings) -> None:
    shared = Shared(valkey_service.url(served.valkey))
    assert shared.lock("abandoned", 1)  # whoever held it died
    cache = Cache(shared, entries=10, seconds=30, wait_seconds=5)
    started = time.monotonic()
    assert cache.get("abandoned", lambda: b"v") == (b"v", "computed")
    assert 0.3 < time.monotonic() - started < 4
    shared.close()


def test_question_is_answered_when_valkey_is_away(
    engines: Engines, served: Settings, free_port: Callable[[], int]
) -> None:
    away = served.valkey.model_copy(update={"port": free_port()})
    engine = engines(base=served.model_copy(update={"valkey": away}))
    assert engine.answer(ask("sends"), principal="admin").rows == [{"sends": 7}]
    state = engine.ready()
    assert state["warehouse"] == "ok"
    assert state["valkey"] != "ok"


def test_error_says_where_when_the_warehouse_is_down(
    engines: Engines, served: Settings, free_port: Callable[[], int]
) -> None:
    port = free_port()
    away = served.warehouse.model_copy(update={"port": port})
    engine = engines(base=served.model_copy(update={"warehouse": away}))
    with pytest.raises(UnavailableError, match=f"{port}.*herald status"):
        engine.answer(ask("sends"), principal="admin")
    assert str(port) in engine.ready()["warehouse"]


def test_question_is_refused_when_it_would_read_too_much(engines: Engines) -> None:
    engine = engines(max_read_rows=1)
    with pytest.raises(TooExpensiveError, match="HERALD_ENGINE__MAX_READ_ROWS"):
        engine.answer(ask("sends", dimensions=["device_class"]), principal="admin")
    with pytest.raises(TooExpensiveError):
        list(engine.stream(ask("sends"), principal="admin"))


def test_limits_change_when_reloaded(engines: Engines, served: Settings) -> None:
    engine = engines(max_read_rows=1)
    query = ask("sends", dimensions=["variant"])
    with pytest.raises(TooExpensiveError):
        engine.answer(query, principal="admin")
    engine.reload(served.engine.model_copy(update={"page_rows": 1}))
    assert len(engine.answer(query, principal="admin").rows) == 1


SLOW = "select sum(cityHash64(number)) from numbers(100000000000)"


def test_query_ends_when_its_time_is_over(served: Settings) -> None:
    pool = Pool(served, Limits(size=1, seconds=1))
    started = time.monotonic()
    with pytest.raises(QueryTimeoutError, match="within 1 s"):
        pool.rows(SLOW)
    assert time.monotonic() - started < 8
    assert pool.rows("select 1") == [(1,)]
    pool.close()


def test_caller_is_told_busy_when_no_connection_comes_free(served: Settings) -> None:
    pool = Pool(served, Limits(size=1, seconds=1))
    with ThreadPoolExecutor(1) as threads:
        slow = threads.submit(pool.rows, SLOW)
        time.sleep(0.2)
        pool.resize(Limits(size=1, seconds=0))
        with pytest.raises(BusyError, match="POOL_SIZE"):
            pool.rows("select 1")
        assert isinstance(slow.exception(), QueryTimeoutError)
    pool.close()


def test_quick_question_passes_when_heavy_ones_fill_their_half(served: Settings) -> None:
    pool = Pool(served, Limits(size=2, seconds=2))
    with ThreadPoolExecutor(2) as threads:
        heavy = [threads.submit(pool.rows, SLOW, heavy=True) for _ in range(2)]
        time.sleep(0.3)
        started = time.monotonic()
        assert pool.rows("select 1") == [(1,)]
        assert time.monotonic() - started < 1.5
        assert {type(h.exception()) for h in heavy} <= {QueryTimeoutError, BusyError}
    pool.close()


def test_error_names_the_fix_when_a_mart_is_missing(served: Settings) -> None:
    pool = Pool(served, Limits(size=1, seconds=5))
    with pytest.raises(NotBuiltError, match="herald dbt build"):
        pool.rows("select * from marts.fct_nothing")
    with pytest.raises(WarehouseRefusedError, match="error 47"):
        pool.rows("select nothing from marts.fct_messages")
    pool.close()


def audited(writer: Client, surface: str) -> list[dict[str, Any]]:
    result = writer.query(
        "select principal, tenant_id, outcome, cache, rows, query from governance.query_audit "
        "where surface = {surface:String} order by asked_at",
        {"surface": surface},
    )
    return list(result.named_results())


def test_every_question_is_audited_when_the_engine_closes(engines: Engines, writer: Client) -> None:
    engine = engines(surface="audit-test")
    for _ in range(2):
        engine.answer(ask("clicks", dimensions=["category"]), principal="admin")
    with pytest.raises(InvalidQueryError):
        engine.answer(ask("clics"), principal="admin")
    engine.close()
    found = audited(writer, "audit-test")
    assert [(r["outcome"], r["cache"], r["rows"]) for r in found] == [
        ("ok", "computed", 1),
        ("ok", "process", 1),
        ("invalid_query", "none", 0),
    ]
    assert {r["principal"] for r in found} == {"admin"}
    assert '"metrics":["clicks"]' in found[0]["query"]


def entry(number: int, surface: str) -> Entry:
    return Entry(at(1), "acme", "admin", surface, "{}", str(number), 1, 0.1, "ok", "computed")


def test_audit_waits_and_writes_when_the_warehouse_comes_back(
    served: Settings, writer: Client
) -> None:
    refusals = [1, 2]

    def open_client(warehouse: Any) -> Client:
        if refusals:
            refusals.pop()
            raise OSError("refused")
        return writer

    audit = Audit(served.warehouse, open_client=open_client)
    audit.record(entry(1, "audit-wait"))
    deadline = time.monotonic() + 15
    while audit.written == 0 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert audit.written == 1
    assert len(audited(writer, "audit-wait")) == 1


def test_audit_drops_and_counts_when_queue_is_full_and_warehouse_away(
    served: Settings, free_port: Callable[[], int]
) -> None:
    away = served.warehouse.model_copy(update={"port": free_port()})
    audit = Audit(away, capacity=3)
    for number in range(2_000):
        audit.record(entry(number, "audit-full"))
    assert audit.dropped > 0
    started = time.monotonic()
    audit.close(seconds=10)
    assert time.monotonic() - started < 12
