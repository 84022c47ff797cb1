"""Reference records to Arrow columns: few records, so each is judged by the exact path."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from herald.contract.references import Reference
from herald.contract.schemas import stored_fields
from spark_jobs.transforms.events import Parsed, Rejection
from spark_jobs.transforms.judging import Limits, RejectedError, judge_reference


def parse_references(
    values: Sequence[bytes], model: type[Reference], now_ms: int, limits: Limits
) -> Parsed:
    """Parse and validate records of one entity; the result depends on the arguments only."""
    rows = []
    kept: list[int] = []
    rejections: list[Rejection] = []
    for position, value in enumerate(values):
        try:
            rows.append(judge_reference(value, model, now_ms, limits))
            kept.append(position)
        except RejectedError as error:
            rejections.append(
                Rejection(position, error.error_class.value, error.field, error.message)
            )
    fields = stored_fields(model)
    table = pa.table(
        {
            field.name: pa.array([row[field.name] for row in rows], _plain(field.arrow_type))
            for field in fields
        }
    )
    return Parsed(table, np.array(kept, dtype=np.int64), rejections, len(values))


def _plain(kind: pa.DataType) -> pa.DataType:
    return pa.string() if pa.types.is_dictionary(kind) else kind
