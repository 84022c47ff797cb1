"""What a simulation is asked to make. The same options give the same bytes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from herald.simulator.encode import MS_PER_HOUR

EVENTS_PER_USER_DAY = 1.9
"""Events of one user in a day, when only users and days are asked for."""

EVENTS_PER_USER = 60
"""Events of one user in the whole run, when only events are asked for."""


class SimulationOptions(BaseModel):
    """Size, seed and faults of a run. Shares are of the valid events, 0 to 1.

    events counts everything produced: valid, redelivered and malformed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    events: int = Field(0, ge=0, le=10**11, description="0: from users and days.")
    users: int = Field(0, ge=0, le=50_000_000, description="0: from events.")
    days: float = Field(30.0, gt=0, le=3_650)
    seed: int = Field(7, ge=0, lt=2**63)
    tenant: str = Field("acme", min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_.-]+$")
    end: AwareDatetime
    faults: bool = True
    malformed_share: float = Field(0.001, ge=0, le=0.5)
    duplicate_share: float = Field(0.002, ge=0, le=0.5)
    late_share: float = Field(0.003, ge=0, le=0.5)
    outages: bool = Field(True, description="Three outages of providers, with faults.")
    incidents_per_kind: int = Field(0, ge=0, le=20, description="For alerts, in the last week.")
    canary_minutes: int = Field(0, ge=0, le=1_440, description="Canaries so often; 0: none.")

    @model_validator(mode="after")
    def _some_size(self) -> SimulationOptions:
        if not self.events and not self.users:
            raise ValueError("events: give events, or users and days; both are 0")
        if self.start.timestamp() <= 0:
            raise ValueError(f"days: {self.days} days before {self.end} is before 1970")
        return self

    @property
    def start(self) -> datetime:
        """First instant of the run, UTC: whole hours before the end."""
        return self.end_minute - timedelta(hours=max(1, round(self.days * 24)))

    @property
    def end_minute(self) -> datetime:
        """Last instant of the run (exclusive): `end` rounded down to the minute, UTC."""
        return self.end.astimezone(UTC).replace(second=0, microsecond=0)

    @property
    def start_ms(self) -> int:
        """`start` in Unix milliseconds."""
        return self.end_ms - max(1, round(self.days * 24)) * MS_PER_HOUR

    @property
    def end_ms(self) -> int:
        """`end_minute` in Unix milliseconds."""
        return int(self.end_minute.timestamp()) * 1_000

    @property
    def event_count(self) -> int:
        """How many events to produce."""
        return self.events or max(1, round(self.users * self.days * EVENTS_PER_USER_DAY))

    @property
    def user_count(self) -> int:
        """How many users there are."""
        return self.users or min(2_000_000, max(200, self.event_count // EVENTS_PER_USER))


def default_end(now: datetime | None = None) -> datetime:
    """The current minute, UTC: the end of a run that names none."""
    return (now or datetime.now(UTC)).replace(second=0, microsecond=0)
