"""marts.fct_abort_funnel: how far messages came, and why they stopped."""

from __future__ import annotations

from expectations.checks import grain_is_unique, has_rows, in_set, measured, rows
from expectations.marts import LATE_REFUSAL_SHARE
from expectations.model import Suite
from herald.settings import Settings

STAGES = ("targeted", "eligible", "attempted", "sent", "delivered", "engaged")


def suite(settings: Settings) -> Suite:
    """Checks of marts.fct_abort_funnel."""
    listed = ", ".join(f"'{stage}'" for stage in STAGES)
    return Suite(
        table="marts.fct_abort_funnel",
        layer="marts",
        purpose="A funnel: no stage holds more messages than the one before it.",
        checks=(
            has_rows(),
            grain_is_unique(
                "tenant_id",
                "anchor_date",
                "campaign_id",
                "variant_id",
                "channel",
                "stage",
                "abort_reason",
            ),
            in_set("stage", STAGES),
            rows(
                "stage_order_is_that_of_the_stage",
                "select stage, stage_order from {batch}"
                f" where stage_order != indexOf([{listed}], stage)",
                "1 to 6 in the order of the stages",
                column="stage_order",
            ),
            measured(
                "funnel_is_monotone",
                f"""
                select arrayStringConcat(arrayMap(x -> toString(x), reached), ' >= ') as observed,
                       'each stage at most {100 * (1 + LATE_REFUSAL_SHARE):g} pct of the one before'
                           as expected,
                       arrayAll(
                           (a, b) -> b <= a * {1 + LATE_REFUSAL_SHARE},
                           arrayPopBack(reached), arrayPopFront(reached)
                       ) as is_ok,
                       '' as note
                from (
                    select arrayMap(
                        s -> arraySum(
                            arrayMap((o, m) -> if(o = s, m, 0), orders, counts)
                        ), range(1, 6)) as reached
                    from (
                        select groupArray(stage_order) as orders, groupArray(messages) as counts
                        from {{batch}}
                        where abort_reason = '' and channel in ('email', 'push', 'sms')
                    )
                )
                """,
                "targeted >= eligible >= attempted >= sent >= delivered",
                column="messages",
            ),
        ),
    )
