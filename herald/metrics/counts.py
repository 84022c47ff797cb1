"""The counts of the marts: what each message adds to each column. The one place that says so."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from herald.metrics.model import Count


def _engagement(name: str, flag: str, *, unique: bool) -> Count:
    """Opens or clicks: columns for all, people and machines.

    A message opened by a person and a machine is a human open: `is_machine_opened` means only
    machines did, so human + machine = all for messages as well as for events.
    """
    prefix = "unique_" if unique else ""
    return Count(
        name=f"{prefix}{name}",
        per_message=f"is_{flag}" if unique else name,
        human=f"{prefix}human_{name}",
        machine=f"{prefix}machine_{name}",
        human_per_message=f"is_human_{flag}" if unique else f"human_{name}",
        machine_per_message=f"is_machine_{flag}" if unique else f"machine_{name}",
    )


TARGETED = Count("targeted", "is_targeted")
ELIGIBLE = Count("eligible", "is_eligible")
ATTEMPTED = Count("attempted", "is_attempted")
SENDS = Count("sends", "is_sent")
DELIVERIES = Count("deliveries", "is_delivered")
BOUNCES = Count("bounces", "is_bounced")
SOFT_BOUNCES = Count("soft_bounces", "is_soft_bounced")
FAILURES = Count("failures", "is_failed")
ABORTS = Count("aborts", "is_aborted")
UNIQUE_OPENS = _engagement("opens", "opened", unique=True)
OPENS = _engagement("opens", "opened", unique=False)
INFLUENCED_OPENS = Count("influenced_opens", "is_influenced_opened", people_only=True)
UNIQUE_CLICKS = _engagement("clicks", "clicked", unique=True)
CLICKS = _engagement("clicks", "clicked", unique=False)
UNIQUE_IMPRESSIONS = Count("unique_impressions", "is_impressed")
UNSUBSCRIBES = Count("unsubscribes", "is_unsubscribed")
COMPLAINTS = Count("complaints", "is_complained")
DISMISSALS = Count("dismissals", "is_dismissed")
READS = Count("reads", "is_read")
REPLIES = Count("replies", "is_replied")
CONVERSIONS = Count("conversions", "is_converted")
TOTAL_CONVERSIONS = Count("total_conversions", "conversions")
REVENUE = Count("revenue", "revenue", money=True)
COST = Count("cost", "cost", money=True)
UNIQUE_RECIPIENTS = Count("unique_recipients", "is_sent or is_impressed", unique=True)

COUNTS: Mapping[str, Count] = MappingProxyType(
    {value.name: value for value in list(globals().values()) if isinstance(value, Count)}
)
"""Every count by its column name."""
