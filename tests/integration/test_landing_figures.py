"""GET /metrics: the figures of landing, from a real broker and ledger, as Prometheus reads them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from clickhouse_connect.driver.client import Client
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from api.landing_figures import LandingFigures
from herald.settings import ROOT, Settings, Topics
from infra.local.platform import Platform
from spark_jobs.jobs.land_range import Lander, TaskConfig
from spark_jobs.sources.ranges import OffsetRange
from tests.integration.serving.conftest import serve

TOPIC = "figures-test.events"
MONITORING = ROOT / "infra" / "monitoring"
Figures = dict[str, dict[tuple[str, ...], float]]


def event(number: int, **changes: Any) -> bytes:
    base = {
        "event_id": f"0192d3a4-5b6c-7d8e-9f05-{number:012d}",
        "tenant_id": "figures-test",
        "event_type": "push.sent",
        "occurred_at": "2026-01-02T03:04:05Z",
    }
    return json.dumps({**base, **changes}).encode()


@pytest.fixture(scope="module")
def own(
    platform: Platform, broker: str, warehouse: Client, free_port: Callable[[], int]
) -> Iterator[Settings]:
    """Ten events and two bad ones on partition 0, landed as two ranges; three wait on each."""
    names = {name: f"figures-test.{name}" for name in Topics.model_fields}
    admin = AdminClient({"bootstrap.servers": broker})
    wanted = [NewTopic(names[n], 2 if n == "events" else 1) for n in names]
    for future in admin.create_topics(wanted).values():
        future.result(20)
    base = platform.settings
    settings = base.model_copy(
        update={
            "kafka": base.kafka.model_copy(update={"topics": Topics(**names)}),
            "api": base.api.model_copy(update={"port": free_port()}),
        }
    )
    producer = Producer({"bootstrap.servers": broker})
    for number in range(10):
        producer.produce(TOPIC, value=event(number), partition=0)
    for bad in (event(1, country="de"), b"{"):
        producer.produce(TOPIC, value=bad, partition=0)
    for number in range(3):
        producer.produce(TOPIC, value=event(100 + number), partition=0)
        producer.produce(TOPIC, value=event(200 + number), partition=1)
    assert producer.flush(30) == 0
    lander = Lander(TaskConfig.of(settings))
    for first, last in ((0, 5), (6, 11)):
        lander.land(OffsetRange(TOPIC, 0, first, last, 1_790_000_000_000), 0)
    warehouse.command(
        "INSERT INTO live.landing_progress (observed_at, topic, `partition`, batch_seconds) "
        f"VALUES (now64(3), '{TOPIC}', 0, 0.3), (now64(3), '{TOPIC}', 0, 7)"
    )
    yield settings
    lander.consumer.close()
    lander.sink.close()


def read(text: str) -> Figures:
    figures: Figures = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = dict(sample.labels)
            slot = [labels.pop(name) for name in ("topic", "partition") if name in labels]
            figures.setdefault(sample.name, {})[*slot, *labels.values()] = sample.value
    return figures


@pytest.fixture(scope="module")
def figures(own: Settings) -> Figures:
    with serve(own) as url:
        answer = httpx.get(f"{url}/metrics", timeout=30)
    assert answer.status_code == 200
    return read(answer.text)


def test_figures_tell_lag_and_rows_by_partition_when_scraped(figures: Figures) -> None:
    assert figures["herald_landing_source_up"] == {("broker",): 1, ("warehouse",): 1}
    assert figures["herald_landing_lag_events"][TOPIC, "0"] == 3
    assert figures["herald_landing_lag_events"][TOPIC, "1"] == 3
    assert figures["herald_landing_lag_events"]["figures-test.users", "0"] == 0
    assert figures["herald_landing_end_offset"][TOPIC, "0"] == 15
    assert figures["herald_landing_next_offset"][TOPIC, "0"] == 12
    assert figures["herald_landing_rows_total"] == {
        (TOPIC, "0", "stored"): 10,
        (TOPIC, "0", "dead_lettered"): 2,
    }
    assert figures["herald_landing_rejected_total"] == {
        (TOPIC, "0", "invalid_value"): 1,
        (TOPIC, "0", "malformed_json"): 1,
    }
    assert figures["herald_landing_rows_per_second"][TOPIC, "0"] == pytest.approx(12 / 60)
    assert figures["herald_landing_bytes_total"][TOPIC, "0"] > 1_000
    assert figures["herald_landing_pushbacks_total"][TOPIC, "0"] == 0
    assert 0 <= figures["herald_landing_last_landed_age_seconds"][TOPIC, "0"] < 250
    assert figures["herald_landing_newest_event_age_seconds"][TOPIC, "0"] > 86_400


def test_figures_hold_histograms_that_add_up_when_scraped(figures: Figures) -> None:
    assert figures["herald_landing_insert_seconds_count"][TOPIC, "0"] == 2
    assert figures["herald_landing_insert_seconds_sum"][TOPIC, "0"] > 0
    batches = figures["herald_landing_batch_seconds_bucket"]
    assert [batches[TOPIC, "0", bound] for bound in ("0.25", "0.5", "5.0", "10.0", "+Inf")] == [
        *(0.0, 1.0, 1.0, 2.0, 2.0)
    ]
    assert figures["herald_landing_batch_seconds_sum"][TOPIC, "0"] == pytest.approx(7.3)


def test_figures_leave_out_what_nobody_tells_when_something_is_away(
    own: Settings, free_port: Callable[[], int]
) -> None:
    port = free_port()
    changes: dict[str, dict[str, Any]] = {
        "broker": {"kafka": own.kafka.model_copy(update={"port": port})},
        "warehouse": {"warehouse": own.warehouse.model_copy(update={"port": port})},
    }
    for away, change in changes.items():
        registry = CollectorRegistry()
        collector = LandingFigures(own.model_copy(update=change))
        registry.register(collector)
        found = read(generate_latest(registry).decode())
        collector.close()
        assert found["herald_landing_source_up"][away,] == 0
        assert "herald_landing_lag_events" not in found
        assert ("herald_landing_end_offset" in found) is (away == "warehouse")
        assert ("herald_landing_rows_total" in found) is (away == "broker")


def test_rules_and_dashboard_name_figures_that_exist(figures: Figures) -> None:
    rules = yaml.safe_load((MONITORING / "landing.rules.yml").read_text(encoding="utf-8"))
    board = json.loads((MONITORING / "landing.dashboard.json").read_text(encoding="utf-8"))
    alerts = [rule for group in rules["groups"] for rule in group["rules"]]
    asked = [rule["expr"] for rule in alerts]
    asked += [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    named = set(re.findall(r"herald_landing_\w+", " ".join(asked)))
    assert len(named) >= 8
    assert named <= set(figures)
    counters = {"herald_intake_events_total", "herald_intake_batches_refused_total"}
    assert set(re.findall(r"herald_intake_\w+", " ".join(asked))) == counters
    for rule in alerts:
        assert {"severity", "owner"} <= set(rule["labels"])
        page, _, anchor = rule["annotations"]["runbook"].partition("#")
        text = Path(ROOT / page).read_text(encoding="utf-8")
        titles = {line.lstrip("# ").lower().replace(" ", "-") for line in text.splitlines()}
        assert not anchor or anchor in titles
