"""The intake of some settings, connected when first used."""

from __future__ import annotations

import threading

from prometheus_client import CollectorRegistry

from herald.intake.broker import EventTopic
from herald.intake.landed import LandedOffsets
from herald.intake.recent import RecentIds
from herald.intake.service import Intake, Judge
from herald.settings import Settings

DATABASE = 0
"""Of Valkey; names are told apart by their prefix."""


class IntakeHolder:
    """Makes one intake when it is first asked for: a service without it needs no broker."""

    def __init__(self, settings: Settings, judge: Judge, registry: CollectorRegistry) -> None:
        self._settings = settings
        self._judge = judge
        self._registry = registry
        self._lock = threading.Lock()
        self._intake: Intake | None = None
        self._landed: LandedOffsets | None = None

    def get(self) -> Intake:
        """The intake."""
        with self._lock:
            if self._intake is None:
                self._intake = self._make()
            return self._intake

    def close(self) -> None:
        """Leave what it connected to."""
        with self._lock:
            if self._intake is not None:
                self._intake.close()
            if self._landed is not None:
                self._landed.close()

    def _make(self) -> Intake:
        settings = self._settings
        topic = settings.kafka.topics.events
        valkey = settings.valkey
        password = valkey.password.get_secret_value()
        self._landed = LandedOffsets(settings.warehouse, topic)
        return Intake(
            settings.intake,
            EventTopic(
                settings.kafka.servers, topic, deliver_seconds=settings.intake.deliver_seconds
            ),
            RecentIds(
                f"redis://:{password}@{valkey.host}:{valkey.port}/{DATABASE}",
                settings.intake.dedupe_seconds,
            ),
            self._judge,
            self._landed,
            self._registry,
        )
