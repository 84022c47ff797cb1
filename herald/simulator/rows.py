"""Events before they are text: which message, when, and which tail; tails are registered once."""

from __future__ import annotations

from enum import IntFlag
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from herald.simulator.encode import Ints, fragment

Codes = npt.NDArray[np.int32]


class Mark(IntFlag):
    """What a message has seen at least once; kept per message to count unique opens and so on."""

    NONE = 0
    HUMAN_OPEN = 1
    MACHINE_OPEN = 2
    HUMAN_CLICK = 4
    BOT_CLICK = 8
    CONVERTED = 16


class Tails:
    """The dictionary of event endings: event type and whatever varies little."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._types: list[int] = []
        self._marks: list[int] = []
        self._codes: dict[str, int] = {}
        self.event_types: list[str] = []

    def code(self, event_type: str, mark: Mark = Mark.NONE, **fields: Any) -> int:
        """Register an ending, or find it again; the code stands for it in arrays."""
        text = fragment({"event_type": event_type, **fields})[:-1] + "}"
        key = f"{int(mark)}{text}"
        if key not in self._codes:
            if event_type not in self.event_types:
                self.event_types.append(event_type)
            self._codes[key] = len(self._texts)
            self._texts.append(text)
            self._types.append(self.event_types.index(event_type))
            self._marks.append(int(mark))
        return self._codes[key]

    def texts(self) -> pl.Series:
        """Text of every code."""
        return pl.Series(self._texts, dtype=pl.String)

    def types(self) -> Codes:
        """Index into `event_types` of every code."""
        return np.array(self._types, dtype=np.int32)

    def marks(self) -> npt.NDArray[np.uint8]:
        """Mark of every code."""
        return np.array(self._marks, dtype=np.uint8)


class Rows:
    """Collects events of one block: parallel arrays of message index, time and tail."""

    def __init__(self) -> None:
        self._subject: list[Ints] = []
        self._at: list[Ints] = []
        self._tail: list[Codes] = []
        self._is_device: list[npt.NDArray[np.bool_]] = []

    def add(
        self,
        subject: Ints,
        at_ms: Ints,
        tail: int | npt.NDArray[Any],
        *,
        device: bool = False,
    ) -> None:
        """Add one event each. device: the user's device reports it, perhaps when next online."""
        n = len(subject)
        if n:
            self._subject.append(subject)
            self._at.append(at_ms)
            self._tail.append(np.broadcast_to(np.asarray(tail, dtype=np.int32), n))
            self._is_device.append(np.broadcast_to(np.bool_(device), n))

    def arrays(self) -> tuple[Ints, Ints, Codes, npt.NDArray[np.bool_]]:
        """Subject, time, tail and whether a device reports it."""
        if not self._subject:
            empty = np.empty(0, dtype=np.int64)
            return empty, empty, empty.astype(np.int32), empty.astype(bool)
        return (
            np.concatenate(self._subject),
            np.concatenate(self._at),
            np.concatenate(self._tail),
            np.concatenate(self._is_device),
        )
