"""The embedded broker: one KRaft node, and topics as `infra/kafka/topics.yaml` says."""

from __future__ import annotations

import base64
import subprocess
import uuid
from pathlib import Path

import yaml
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient
from kafka.errors import KafkaError
from pydantic import BaseModel, ConfigDict, Field

from herald.settings import ROOT, Kafka, Settings

JARS = ROOT / "var" / "jars" / "kafka"
TOPICS_FILE = ROOT / "infra" / "kafka" / "topics.yaml"
HEAP = "512m"


class BrokerDownError(Exception):
    """Nothing speaks Kafka at the address of the settings."""


class Topic(BaseModel):
    """Shape of one topic."""

    model_config = ConfigDict(extra="forbid")

    name: str
    partitions: int = Field(ge=1)
    config: dict[str, str | int | float] = {}


def read_topics(path: Path = TOPICS_FILE) -> dict[str, Topic]:
    """Topics by their key in `settings.kafka.topics`."""
    return {key: Topic(**value) for key, value in yaml.safe_load(path.read_text()).items()}


def server_properties(settings: Settings) -> str:
    """Configuration of the broker."""
    kafka = settings.kafka
    data = settings.state_dir / "kafka"
    lines = {
        "process.roles": "broker,controller",
        "node.id": 1,
        "controller.quorum.voters": f"1@{kafka.host}:{kafka.controller_port}",
        "listeners": (
            f"PLAINTEXT://{kafka.host}:{kafka.port},"
            f"CONTROLLER://{kafka.host}:{kafka.controller_port}"
        ),
        "advertised.listeners": f"PLAINTEXT://{kafka.host}:{kafka.port}",
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "PLAINTEXT",
        "log.dirs": data / "data",
        # a typing error in a topic's name must fail, not make a topic
        "auto.create.topics.enable": "false",
        # one node: whatever is replicated by default has one copy
        "default.replication.factor": 1,
        "offsets.topic.replication.factor": 1,
        "offsets.topic.num.partitions": 4,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "transaction.state.log.num.partitions": 4,
        "share.coordinator.state.topic.replication.factor": 1,
        "share.coordinator.state.topic.min.isr": 1,
        "share.coordinator.state.topic.num.partitions": 4,
        "group.initial.rebalance.delay.ms": 0,
        # a broker that was killed may register again only when its old session has expired:
        # with the default of 9 s it was back after 13 s
        "broker.session.timeout.ms": 2_000,
        "broker.heartbeat.interval.ms": 500,
        # an event with a 1 MB field must arrive, to be refused with its reason
        "message.max.bytes": 8 * 1024**2,
        "replica.fetch.max.bytes": 8 * 1024**2,
        "socket.request.max.bytes": 64 * 1024**2,
        "log.segment.bytes": 256 * 1024**2,
        "log.cleaner.dedupe.buffer.size": 16 * 1024**2,
        # two cores are shared with everything else
        "num.network.threads": 2,
        "num.io.threads": 4,
        "background.threads": 2,
    }
    return "".join(f"{name}={value}\n" for name, value in lines.items())


def log4j2_configuration(log_file: Path) -> str:
    """Broker log at WARN, and what it says of its own start, into one rolling file."""
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<Configuration status="WARN">
  <Appenders>
    <RollingFile name="file" fileName="{log_file}" filePattern="{log_file}.%i">
      <PatternLayout pattern="%d{{ISO8601}} %p %c{{1}}: %m%n"/>
      <Policies><SizeBasedTriggeringPolicy size="20 MB"/></Policies>
      <DefaultRolloverStrategy max="2"/>
    </RollingFile>
  </Appenders>
  <Loggers>
    <Logger name="kafka.server.KafkaRaftServer" level="INFO"/>
    <Logger name="org.apache.kafka.common.utils.AppInfoParser" level="INFO"/>
    <Root level="WARN"><AppenderRef ref="file"/></Root>
  </Loggers>
</Configuration>
"""


def command(settings: Settings) -> list[str]:
    """How the broker is started."""
    folder = settings.state_dir / "kafka"
    return [
        *java(folder, heap=HEAP),
        "kafka.Kafka",
        str(folder / "server.properties"),
    ]


def java(folder: Path, *, heap: str) -> list[str]:
    """A Java command line with the broker's jars; append the class and its arguments."""
    return [
        "java",
        f"-Xmx{heap}",
        "-Xms256m",
        "-XX:+UseG1GC",
        "-XX:MaxGCPauseMillis=20",
        "-XX:+ExitOnOutOfMemoryError",
        f"-Dlog4j2.configurationFile={folder / 'log4j2.xml'}",
        "-cp",
        f"{JARS}/*",
    ]


def prepare(settings: Settings) -> None:
    """Write the configuration, and format the data folder once, with a cluster id that stays."""
    folder = settings.state_dir / "kafka"
    log_file = settings.state_dir / "log" / "kafka-server.log"
    log_file.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "server.properties").write_text(server_properties(settings))
    (folder / "log4j2.xml").write_text(log4j2_configuration(log_file))
    if (folder / "data" / "meta.properties").is_file():
        return
    id_file = folder / "cluster_id"
    if not id_file.is_file():
        # 'A' in front: an id that starts with '-' would read as an option
        raw = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        id_file.write_text("A" + raw[1:])
    done = subprocess.run(
        [
            *java(folder, heap="256m"),
            "kafka.tools.StorageTool",
            "format",
            "--cluster-id",
            id_file.read_text(),
            "--config",
            str(folder / "server.properties"),
            "--ignore-formatted",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise BrokerDownError(f"formatting {folder / 'data'} failed:\n{done.stdout}{done.stderr}")


def admin(kafka: Kafka, *, timeout_seconds: float = 10.0) -> KafkaAdminClient:
    """An administration client.

    Raises:
        BrokerDownError: nothing answers in time.
    """
    wait = int(timeout_seconds * 1000)
    try:
        return KafkaAdminClient(
            bootstrap_servers=kafka.servers,
            bootstrap_timeout_ms=wait,
            request_timeout_ms=max(wait, 5_000),
        )
    except (KafkaError, OSError, ValueError) as error:
        raise BrokerDownError(
            f"Kafka at {kafka.servers} does not answer: {error} (is it up? `herald status`)"
        ) from error


def is_healthy(settings: Settings) -> bool:
    """Whether the broker answers a metadata request."""
    try:
        client = admin(settings.kafka, timeout_seconds=3)
    except BrokerDownError:
        return False
    client.close()
    return True


def apply_topics(kafka: Kafka, topics: dict[str, Topic] | None = None) -> list[str]:
    """Make the broker's topics as the file says; a second time changes nothing.

    Returns:
        One line for each change. Partitions are added, never removed.

    Raises:
        BrokerDownError: nothing answers.
    """
    wanted = {getattr(kafka.topics, key): topic for key, topic in (topics or read_topics()).items()}
    client = admin(kafka, timeout_seconds=30)
    changes = []
    try:
        there = {topic["name"]: topic for topic in client.describe_topics()}
        missing = {name: topic for name, topic in wanted.items() if name not in there}
        if missing:
            client.create_topics(
                {
                    name: {
                        "num_partitions": topic.partitions,
                        "configs": {key: str(value) for key, value in topic.config.items()},
                    }
                    for name, topic in missing.items()
                },
                wait_for_metadata=True,
            )
            changes += [f"created {name}" for name in sorted(missing)]
        for name, topic in sorted(wanted.items()):
            if name in missing:
                continue
            has = len(there[name]["partitions"])
            if has < topic.partitions:
                client.create_partitions({name: topic.partitions})
                changes.append(f"{name}: {has} -> {topic.partitions} partitions")
            changes += _set_configuration(client, name, topic)
    finally:
        client.close()
    return changes


def _set_configuration(client: KafkaAdminClient, name: str, topic: Topic) -> list[str]:
    resource = ConfigResource(ConfigResourceType.TOPIC, name)
    described = client.describe_configs([resource], config_filter="all")["topic"][name]
    current = {key: value["value"] for key, value in described.items()}
    wrong = {
        key: str(value) for key, value in topic.config.items() if current.get(key) != str(value)
    }
    if wrong:
        client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, configs=wrong)])
    return [f"{name}: {key} = {value}" for key, value in sorted(wrong.items())]
