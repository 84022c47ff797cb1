"""Times as nearly every producer writes them, `2026-11-01T12:00:00.123Z`, read as a byte matrix."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

_WIDTH = 24
_TEMPLATE = np.frombuffer(b"0000-00-00T00:00:00.000Z", dtype=np.uint8)
_DIGIT = np.isin(_TEMPLATE, ord("0"))
_DAYS_IN = np.array([0, 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31, 0, 0, 0], dtype=np.int32)


def usual_times(column: pa.LargeStringArray) -> tuple[Ints, Mask] | tuple[None, Mask]:
    """Milliseconds since 1970 UTC of each text, and whether it is a time in the usual form.

    None for the milliseconds when a text has another width: some other form is in use.
    Absent texts are 0 and not usual.
    """
    rows = len(column)
    given = np.ones(rows, dtype=np.bool_)
    if column.null_count:
        given = column.is_valid().to_numpy(zero_copy_only=False)
        column = column.drop_null()
    _, offsets, data = column.buffers()
    if not len(column):
        return np.zeros(rows, dtype=np.int64), np.zeros(rows, dtype=np.bool_)
    starts = np.frombuffer(offsets, np.int64, len(column) + 1, column.offset * 8)
    if (np.diff(starts) != _WIDTH).any():
        return None, given
    octets = np.frombuffer(data, np.uint8, len(column) * _WIDTH, int(starts[0]))
    found, usual = _milliseconds(octets.reshape(-1, _WIDTH))
    if len(found) == rows:
        return found, usual
    ms, sure = np.zeros(rows, dtype=np.int64), np.zeros(rows, dtype=np.bool_)
    ms[given], sure[given] = found, usual
    return ms, sure


def _milliseconds(texts: npt.NDArray[np.uint8]) -> tuple[Ints, Mask]:
    columns = np.ascontiguousarray(texts.T)
    usual = np.ones(len(texts), dtype=np.bool_)
    for octet, template, is_digit in zip(columns, _TEMPLATE, _DIGIT, strict=True):
        # below "0" wraps around to above 9
        usual &= (octet - np.uint8(48) <= 9) if is_digit else (octet == template)
    digits = (columns & 15).astype(np.int32)

    def number(first: int, last: int) -> npt.NDArray[np.int32]:
        value: npt.NDArray[np.int32] = digits[first]
        for place in range(first + 1, last + 1):
            value = value * 10 + digits[place]
        return value

    year, month, day = number(0, 3), number(5, 6), number(8, 9)
    hour, minute, second = number(11, 12), number(14, 15), number(17, 18)
    leap = (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))
    usual &= (year > 0) & (day > 0) & (day <= _DAYS_IN[np.minimum(month, 15)])
    usual &= ((month != 2) | (day < 29) | leap) & (hour < 24) & (minute < 60) & (second < 60)
    # days since 1970 of the proleptic Gregorian calendar, the year begun in March
    early = month < 3
    shifted = year - early
    of_year = (153 * (month + np.where(early, 9, -3)) + 2) // 5 + day - 1
    days = 365 * shifted + shifted // 4 - shifted // 100 + shifted // 400 + of_year - 719_468
    seconds = days.astype(np.int64) * 86_400 + hour * 3_600 + minute * 60 + second
    return np.where(usual, seconds * 1_000 + number(20, 22), 0), usual
