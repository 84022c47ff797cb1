"""A warehouse that slows or refuses makes batches smaller; once it is well they grow back."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator

import pytest
from clickhouse_connect.driver.client import Client
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from herald.settings import Settings
from spark_jobs.jobs.land_range import Lander, TaskConfig
from spark_jobs.sinks.clickhouse import Address, ClickHouseSink
from spark_jobs.sources.kafka import Watermarks
from spark_jobs.sources.plan import PlanConfig, Planner
from spark_jobs.sources.ranges import Slot

TOPIC = "pressure-test.events"
SLOT = Slot(TOPIC, 0)
EVENTS = 8_000
SLOW = 3.0


class SlowProxy:
    """A TCP proxy that holds back inserts of events, or answers them with an error."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self.delay = 0.0
        self.refusals = 0
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._server.close()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._pass, args=(client,), daemon=True).start()

    def _pass(self, client: socket.socket) -> None:
        server = socket.create_connection(self._target)
        threading.Thread(target=self._back, args=(server, client), daemon=True).start()
        with client, server:
            while data := client.recv(65_536):
                is_insert = b"INSERT+INTO+raw.events" in data
                if is_insert and self.refusals:
                    self.refusals -= 1
                    client.sendall(
                        b"HTTP/1.1 500 Internal Server Error\r\nConnection: close\r\n"
                        b"X-ClickHouse-Exception-Code: 241\r\nContent-Length: 5\r\n\r\nfull\n"
                    )
                    return
                time.sleep(self.delay * is_insert)
                server.sendall(data)

    def _back(self, server: socket.socket, client: socket.socket) -> None:
        try:
            while data := server.recv(65_536):
                client.sendall(data)
        except OSError:
            return  # the other side is gone


@pytest.fixture
def proxy(settings: Settings, warehouse: Client) -> Iterator[SlowProxy]:
    proxy = SlowProxy((settings.warehouse.host, settings.warehouse.port))
    yield proxy
    proxy.close()


def event(number: int) -> bytes:
    return json.dumps(
        {
            "event_id": f"0192d3a4-5b6c-7d8e-9f04-{number:012d}",
            "tenant_id": "pressure-test",
            "event_type": "push.sent",
            "occurred_at": "2026-01-02T03:04:05Z",
        }
    ).encode()


def test_batches_shrink_and_grow_back_when_the_warehouse_slows_for_a_while(
    settings: Settings, broker: str, warehouse: Client, proxy: SlowProxy
) -> None:
    admin = AdminClient({"bootstrap.servers": broker})
    for future in admin.create_topics([NewTopic(TOPIC, 1), NewTopic(f"{TOPIC}.dead", 1)]).values():
        future.result(20)
    producer = Producer({"bootstrap.servers": broker})
    for number in range(EVENTS):
        producer.produce(TOPIC, value=event(number))
    assert producer.flush(30) == 0
    base = TaskConfig.of(settings)
    own = base.warehouse
    address = Address(own.host, proxy.port, own.secure, own.user, own._password)
    lander = Lander(
        TaskConfig(broker, address, base.limits, f"{TOPIC}.dead", ((TOPIC, "raw.events"),))
    )
    # a trigger of 1 ms, so that every batch is looked at and two intervals are under the smallest
    plan = PlanConfig(broker, (TOPIC,), address, 400, 800, "pressure-test", 100, 0.001, SLOW)
    planner = Planner(plan, ClickHouseSink(address), Watermarks(broker, (TOPIC,)))

    start = planner.initial()
    sizes: list[int] = []

    def batch() -> int:
        nonlocal start
        end = planner.latest(start, 800)
        for part, _ in planner.partitions(start, end):
            lander.land(part, len(sizes))
        sizes.append(end[SLOT.key] - start[SLOT.key])
        start = end
        return sizes[-1]

    while batch() < 800:
        assert len(sizes) < 9, sizes
    proxy.delay = 1.2 * SLOW
    batch()
    proxy.delay = 0.0
    assert batch() == 100
    while batch() < 800:
        assert len(sizes) < 16, sizes
    proxy.refusals = 1
    batch()
    fresh = Planner(plan, ClickHouseSink(address), Watermarks(broker, (TOPIC,)))
    # a job that starts anew knows what the last minute was like
    assert sum(fresh.latest(start, 800).values()) - sum(start.values()) < 800
    while start[SLOT.key] < EVENTS:
        batch()
    rows, distinct = warehouse.query(
        "SELECT count(), uniqExact(event_id) FROM raw.events WHERE _topic = {t:String}",
        parameters={"t": TOPIC},
    ).first_row
    assert (rows, distinct) == (EVENTS, EVENTS)
    refused, code = warehouse.query(
        "SELECT sum(pushbacks), max(pushback_code) FROM raw.landed_ranges WHERE topic = {t:String}",
        parameters={"t": TOPIC},
    ).first_row
    assert (refused, code) == (1, 241)
    lander.consumer.close()
    lander.sink.close()
