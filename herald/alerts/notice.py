"""What a person or program is told: transitions of one tenant and rule, told together."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from herald.alerts.model import Alert, Transition, TransitionName

ICONS = {"critical": "🔴", "warning": "🟠", "info": "🔵"}
MAX_LINES = 20


@dataclass(frozen=True, slots=True)
class Notice:
    """Transitions of one kind, tenant and rule; at least one."""

    transitions: tuple[Transition, ...]
    runbook_url: str = ""

    @property
    def transition(self) -> TransitionName:
        """What happened to all of them."""
        return self.transitions[0].transition

    @property
    def first(self) -> Alert:
        """The alert that stands for the others where one must."""
        return self.transitions[0].alert

    @property
    def idempotency_key(self) -> str:
        """The same for the same members at every try."""
        keys = sorted(t.idempotency_key for t in self.transitions)
        if len(keys) == 1:
            return keys[0]
        return f"{hashlib.sha256(' '.join(keys).encode()).hexdigest()[:32]}.{self.transition}"

    @property
    def title(self) -> str:
        """One line: what happened, how bad, which rule."""
        many = f" ({len(self.transitions)})" if len(self.transitions) > 1 else ""
        return (
            f"[{self.first.severity}] {self.first.rule} {self.transition}{many}: "
            f"{self.first.tenant_id}"
        )

    @property
    def lines(self) -> list[str]:
        """A sentence for each alert."""
        shown = [t.alert.summary for t in self.transitions[:MAX_LINES]]
        more = len(self.transitions) - len(shown)
        return [*shown, f"and {more} more"] if more else shown

    @property
    def runbook(self) -> str:
        """Where it says what to do."""
        return f"{self.runbook_url.rstrip('/')}/{self.first.runbook}".lstrip("/")

    def body(self) -> dict[str, Any]:
        """The JSON of webhook; `alerts` as in the API, each with its own key."""
        return {
            "schema": 1,
            "event": f"alerts.{self.transition}",
            "idempotency_key": self.idempotency_key,
            "tenant_id": self.first.tenant_id,
            "rule": self.first.rule,
            "title": self.title,
            "runbook": self.runbook,
            "alerts": [
                {**t.alert.model_dump(mode="json"), "idempotency_key": t.idempotency_key}
                for t in self.transitions
            ],
        }


def group(transitions: Sequence[Transition], runbook_url: str = "") -> list[Notice]:
    """Notices of what happened, opened ones before resolved ones of the same alerts."""
    groups: dict[tuple[str, str, str], list[Transition]] = {}
    for one in sorted(transitions, key=lambda t: (t.happened_at, t.alert.alert_id)):
        groups.setdefault((one.alert.tenant_id, one.alert.rule, one.transition), []).append(one)
    return [Notice(tuple(members), runbook_url) for members in groups.values()]
