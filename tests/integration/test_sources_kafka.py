"""Sources against a real broker, by the command line: what is counted is what is there."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import Result
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from typer.testing import CliRunner

from herald.cli.main import build_app
from herald.settings import Settings
from herald.sources.errors import BrokerDownError, SourceError
from herald.sources.producer import BulkProducer

Run = Callable[..., Result]


@pytest.fixture
def herald(herald_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the command line in this process, against the platform of this session."""
    for name, value in herald_environment.items():
        monkeypatch.setenv(name, value)
    app = build_app()

    def run(*arguments: str, stdin: str = "") -> Result:
        return CliRunner().invoke(app, arguments, input=stdin)

    return run


@pytest.fixture
def topic(broker: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """A topic of this test's own, so that nobody lands its events."""
    name = f"tests.{request.node.name[:60].replace('[', '-').replace(']', '')}"
    admin = AdminClient({"bootstrap.servers": broker})
    config = {"max.message.bytes": "8388608"}
    for done in admin.create_topics([NewTopic(name, 3, 1, config=config)]).values():
        done.result()
    yield name
    for done in admin.delete_topics([name]).values():
        done.result()


def consume(broker: str, topic: str) -> list[tuple[bytes | None, bytes | None, int]]:
    """Key, value and partition of every record of a topic."""
    consumer = Consumer({"bootstrap.servers": broker, "group.id": "tests-sources",
                         "enable.auto.commit": False})  # fmt: skip
    found = []
    try:
        for partition in consumer.list_topics(topic).topics[topic].partitions:
            where = TopicPartition(topic, partition, 0)
            end = consumer.get_watermark_offsets(where)[1]
            if not end:
                continue
            consumer.assign([where])
            while True:
                batch = consumer.consume(5_000, timeout=0.3)
                found += [(m.key(), m.value(), m.partition()) for m in batch]
                if batch and batch[-1].offset() == end - 1:
                    break
    finally:
        consumer.close()
    return found


def test_topics_hold_the_same_bytes_as_a_file_when_a_run_is_simulated(
    herald: Run, broker: str, topic: str, settings: Settings, tmp_path: Path
) -> None:
    run = (
        "simulate",
        "--events",
        "20000",
        "--seed",
        "5",
        "--end",
        "2026-11-01T00:00:00Z",
        "--json",
    )
    to_kafka = herald(*run, "--topic", topic)
    assert to_kafka.exit_code == 0, to_kafka.stderr
    summary = json.loads(to_kafka.stdout)
    assert summary["written"][topic] == 20_000
    assert summary["end_offsets_moved"] == {topic: 20_000}
    assert summary["events"]["total"] == 20_000
    assert summary["written"][settings.kafka.topics.campaigns] > 50
    assert summary["written"][settings.kafka.topics.users] == 333
    truth = json.loads(Path(summary["truth"]).read_bytes())
    assert Path(summary["truth"]).is_relative_to(settings.state_dir)
    assert truth["produced"] == summary["events"]

    path = tmp_path / "run.jsonl"
    to_file = herald(*run, "--to", "file", str(path))
    assert to_file.exit_code == 0, to_file.stderr
    records = consume(broker, topic)
    lines = path.read_bytes().split(b"\n")[:-1]
    assert sorted(value or b"" for _, value, _ in records) == sorted(lines)
    of_user: dict[bytes | None, set[int]] = {}
    for key, _, partition in records:
        of_user.setdefault(key, set()).add(partition)
    assert all(len(partitions) == 1 for partitions in of_user.values())
    assert len(of_user) > 200


def test_lines_arrive_in_order_and_unchanged_when_a_file_is_produced(
    herald: Run, broker: str, topic: str, tmp_path: Path
) -> None:
    path = tmp_path / "events.jsonl"
    lines = [f'{{"user_id":"u{i % 7}","n":{i}}}'.encode() for i in range(5_000)]
    path.write_bytes(b"\n".join([*lines, b"", b"broken \xff", b""]))
    done = herald("produce", str(path), "--topic", topic, "--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["end_offsets_moved"] == {topic: 5_002}
    records = consume(broker, topic)
    assert sorted(v or b"" for _, v, _ in records) == sorted([*lines, b"", b"broken \xff"])
    for user in range(7):
        numbers = [json.loads(v or b"")["n"] for k, v, _ in records if k == f"u{user}".encode()]
        assert numbers == sorted(numbers)


def test_events_flow_at_the_rate_when_one_is_given(herald: Run, topic: str) -> None:
    done = herald(
        "produce", "-", "--topic", topic, "--rate", "1000", "--json", stdin="{}\n" * 1_500
    )
    assert done.exit_code == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["written"] == {topic: 1_500}
    assert 700 < summary["events_per_second"] <= 1_010


def test_real_impressions_arrive_when_the_open_bandit_data_is_imported(
    herald: Run, broker: str, topic: str
) -> None:
    first = herald("import", "open-bandit", "--topic", topic, "--json")
    assert first.exit_code == 0, first.stderr
    summary = json.loads(first.stdout)
    assert summary["mapped"] == {"impressions": 60_000, "clicks": 287}
    assert summary["end_offsets_moved"] == {topic: 120_287}
    again = herald("import", "open-bandit", "--topic", topic, "--policy", "bts", "--limit", "300")
    assert again.exit_code == 0, again.stderr
    ids = [(value or b"")[13:49] for _, value, _ in consume(broker, topic)]
    assert len(ids) == 120_287 + 600
    assert len(set(ids)) == 120_287


def test_a_trial_arrives_when_hillstrom_is_imported(
    herald: Run, topic: str, tmp_path: Path
) -> None:
    path = tmp_path / "trial.csv"
    path.write_text(
        "recency,history_segment,history,mens,womens,zip_code,newbie,channel,treatment,"
        "conversion,visit,spend\n1,a,2.5,1,0,Rural,0,Web,Mens E-Mail,1,1,9.5\n"
    )
    done = herald("import", "hillstrom", str(path), "--topic", topic)
    assert done.exit_code == 0, done.stderr
    assert "customers" in done.stdout
    missing = herald("import", "hillstrom", str(tmp_path / "none.csv"))
    assert missing.exit_code == 1
    assert "none.csv does not exist" in missing.stderr


def test_nothing_is_claimed_when_the_broker_is_down(
    herald: Run, free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    port = str(free_port())
    monkeypatch.setenv("HERALD_KAFKA__PORT", port)
    done = herald("simulate", "--events", "100")
    assert done.exit_code == 1
    assert done.stdout == ""
    assert f"no Kafka broker answers at 127.0.0.1:{port}" in done.stderr


def test_the_address_is_named_when_no_broker_answers(
    free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("herald.sources.producer.CONNECT_SECONDS", 1.0)
    servers = f"127.0.0.1:{free_port()}"
    with pytest.raises(BrokerDownError, match=f"answers at {servers}"), BulkProducer(servers):
        pass
    with pytest.raises(BrokerDownError, match=f"end offsets of {servers}"):
        BulkProducer(servers).end_offsets(["any"])


def test_the_topic_is_named_when_it_does_not_exist(herald: Run, broker: str) -> None:
    done = herald("produce", "-", "--topic", "tests.nowhere", stdin="{}\n")
    assert done.exit_code == 1
    assert "topics do not exist" in done.stderr
    assert "tests.nowhere" in done.stderr


def test_loss_is_reported_when_a_record_is_refused_by_the_broker(broker: str, topic: str) -> None:
    config = {"max.message.bytes": "1000"}
    admin = AdminClient({"bootstrap.servers": broker})
    small = f"{topic}.small"
    for made in admin.create_topics([NewTopic(small, 1, 1, config=config)]).values():
        made.result()
    producer = BulkProducer(broker)
    # random bytes do not compress, so the batch stays too large for the topic
    producer.send(small, [("k", random.Random(1).randbytes(10_000))])
    with pytest.raises(SourceError, match="1 of 1 records were not delivered"):
        producer.flush()
    assert producer.acknowledged[small] == 0
    for gone in admin.delete_topics([small]).values():
        gone.result()


def test_records_beyond_the_queue_wait_when_many_are_sent(broker: str, topic: str) -> None:
    producer = BulkProducer(broker, queue_records=5_000)
    with producer:
        producer.send(topic, [(f"k{i}", b"{}") for i in range(30_000)])
    assert producer.acknowledged[topic] == 30_000
    assert producer.end_offsets([topic]) == {topic: 30_000}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--events", "10", "--end", "yesterday"), "--end 'yesterday' is not ISO 8601"),
        (("--events", "10", "--to", "file"), "--to file needs a PATH"),
        (("--events", "10", "out.jsonl"), "only used with --to file"),
        (("--events", "10", "--malformed", "2"), "--malformed_share 2.0"),
        (("--events", "10", "--tenant", "a b"), "--tenant 'a b'"),
    ],
)
def test_the_option_is_named_when_a_value_is_wrong(
    herald: Run, arguments: tuple[str, ...], message: str
) -> None:
    done = herald("simulate", *arguments)
    assert done.exit_code == 2
    assert message in done.stderr


def test_events_come_as_lines_when_sent_to_standard_output(herald: Run) -> None:
    done = herald("simulate", "--events", "500", "--days", "3", "--to", "stdout", "--no-faults",
                  "--users", "50", "--rate", "100000")  # fmt: skip
    assert done.exit_code == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 500
    assert all(json.loads(line)["tenant_id"] == "acme" for line in lines)
    assert "'total': 500" in done.stderr
