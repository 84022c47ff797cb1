"""The sentence that a person reads first."""

from __future__ import annotations

from herald.alerts.model import Alert
from herald.alerts.rules import BaseRule, Canary, FunnelStall, RateAnomaly, Rule, VolumeAnomaly


def summary(rule: Rule, alert: Alert) -> str:
    """One sentence: where, what was measured, and against what."""
    return f"{_where(alert)}: {_what(rule, alert)}"


def _where(alert: Alert) -> str:
    labels = [alert.tenant_id, *(value or "(none)" for value in alert.group_key.values())]
    return " / ".join(labels)


def _what(rule: Rule, alert: Alert) -> str:
    span = length(rule)
    share, limit = f"{alert.value:.1%}", f"{alert.threshold:.1%}"
    usual = "" if alert.baseline is None else f", usual is {alert.baseline:.1%}"
    match rule.kind:
        case "delivery_gap":
            return f"{share} of {alert.events} sent in {span} have no answer{usual}"
        case "bounce_spike":
            return f"{share} of {alert.events} sent in {span} bounced, limit {limit}{usual}"
        case "complaint_spike":
            share, limit = f"{alert.value:.2%}", f"{alert.threshold:.2%}"
            return (
                f"{share} of {alert.events} delivered in {span} were marked as spam, limit {limit}"
            )
        case "provider_silence":
            return f"{alert.value:.0f} events in {span}, usual are {alert.baseline or 0:.0f}"
        case "bot_storm":
            return f"{alert.events} clicks in {span}, {alert.value:.1f} a message delivered lately"
        case "over_messaging":
            return f"{alert.value:.0f} users got {alert.events} messages in {span} and opened none"
        case _:
            return _against_usual(rule, alert, span)


def _against_usual(rule: Rule, alert: Alert, span: str) -> str:
    if isinstance(rule, FunnelStall):
        return (
            f"{alert.value:.1%} of {alert.events} {rule.from_stage} in {span} were "
            f"{rule.to_stage}, limit {alert.threshold:.1%}"
        )
    if isinstance(rule, VolumeAnomaly):
        name = " + ".join(rule.metric)
        return f"{alert.value:.0f} {name} in {span}, usual are {alert.baseline or 0:.0f}"
    if isinstance(rule, RateAnomaly):
        name = f"{' + '.join(rule.numerator)} a {' + '.join(rule.denominator)}"
        return f"{alert.value:.1%} {name} in {span}, usual is {alert.baseline or 0:.1%}"
    assert isinstance(rule, Canary)
    return f"canaries of {span} took up to {alert.value:.0f} s, limit {rule.threshold:.0f} s"


def length(rule: BaseRule) -> str:
    """The window in words, such as `15 min`."""
    seconds = int(rule.window.total_seconds())
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds % size == 0 and (unit != "d" or seconds > size):
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
