"""Where records go: a topic, a file or standard output. All count what they took."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, Protocol, Self

from herald.settings import Topics
from herald.sources.errors import SourceError
from herald.sources.producer import BulkProducer, Record

EVENTS = "events"
"""Stream of events; the other streams are named for their reference entity."""

CHUNK = 4_096


class Sink(Protocol):
    """Takes records of named streams: `events`, `campaigns`, `templates`, ..."""

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None: ...

    def write(self, stream: str, records: Sequence[Record]) -> None:
        """Take records in order."""

    def name_of(self, stream: str) -> str:
        """Topic or file of a stream."""

    def finish(self) -> None:
        """Wait until everything is stored; raise SourceError if something was not."""

    def counts(self) -> dict[str, int]:
        """Records taken for good, by topic or file."""


class FileSink:
    """Writes JSON lines: events to `path`, other streams beside it (`x.campaigns.jsonl`)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._files: dict[str, BinaryIO] = {}
        self._counts: Counter[str] = Counter()

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        for file in self._files.values():
            file.close()

    def place(self, stream: str) -> Path:
        """File of a stream."""
        if stream == EVENTS:
            return self.path
        return self.path.with_name(f"{self.path.stem}.{stream}.jsonl")

    def write(self, stream: str, records: Sequence[Record]) -> None:
        """Append one line a record."""
        path = self.place(stream)
        if stream not in self._files:
            try:
                self._files[stream] = path.open("wb")
            except OSError as error:
                raise SourceError(f"{path} cannot be written: {error.strerror}") from None
        _write_lines(self._files[stream], records)
        self._counts[str(path)] += len(records)

    def name_of(self, stream: str) -> str:
        """Path of a stream's file."""
        return str(self.place(stream))

    def finish(self) -> None:
        """Write what is buffered."""
        for file in self._files.values():
            file.flush()

    def counts(self) -> dict[str, int]:
        """Lines by file."""
        return dict(self._counts)


class StdoutSink:
    """Writes events as JSON lines to standard output; reference records are left out."""

    def __init__(self) -> None:
        self._count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        sys.stdout.buffer.flush()

    def write(self, stream: str, records: Sequence[Record]) -> None:
        """Write one line a record."""
        if stream == EVENTS:
            _write_lines(sys.stdout.buffer, records)
            self._count += len(records)

    def name_of(self, stream: str) -> str:
        """Always standard output."""
        return "stdout"

    def finish(self) -> None:
        """Write what is buffered."""
        sys.stdout.buffer.flush()

    def counts(self) -> dict[str, int]:
        """Lines written."""
        return {"stdout": self._count}


class KafkaSink:
    """Produces to the topics of the settings; `topic` overrides that of the events."""

    def __init__(self, servers: str, topics: Topics, topic: str = "") -> None:
        self.topics = topics
        self.topic = topic or topics.events
        self._producer = BulkProducer(servers)
        self._before: dict[str, int] = {}

    def __enter__(self) -> Self:
        self._producer.require_broker([self.topic])
        self._producer.__enter__()
        self._before = self._producer.end_offsets([self.topic])
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self._producer.__exit__(kind, *rest)

    def write(self, stream: str, records: Sequence[Record]) -> None:
        """Queue records for the stream's topic."""
        self._producer.send(self.name_of(stream), records)

    def name_of(self, stream: str) -> str:
        """Topic of a stream."""
        return self.topic if stream == EVENTS else str(getattr(self.topics, stream))

    def finish(self) -> None:
        """Wait for every acknowledgement; raise SourceError if one is missing."""
        self._producer.flush()

    def counts(self) -> dict[str, int]:
        """Records acknowledged, by topic."""
        return dict(self._producer.acknowledged)

    def end_offset_deltas(self) -> dict[str, int]:
        """How far the end offsets of the events topic moved since the start."""
        after = self._producer.end_offsets(self._before)
        return {topic: after[topic] - before for topic, before in self._before.items()}


def _write_lines(file: BinaryIO, records: Sequence[Record]) -> None:
    for start in range(0, len(records), CHUNK):
        part = [value or b"" for _, value in records[start : start + CHUNK]]
        file.write(b"\n".join(part) + b"\n")
