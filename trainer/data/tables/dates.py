"""Dates of ISO 8601 as numbers."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

DATE = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d([.,]\d{1,9})?)?( ?(Z|[-+]\d\d(:?\d\d)?))?)?", re.ASCII)
EPOCH = datetime(1970, 1, 1)


def parse_date(text: str) -> float | None:
    """Return the days since 1970-01-01 of a date such as 2024-01-31, with a time or without; None for any other text.

    A time with an offset is converted to UTC.
    """
    if not DATE.fullmatch(text):
        return None
    try:
        moment = datetime.fromisoformat(text.replace(" +", "+").replace(" -", "-").replace(" Z", "Z"))
        if moment.tzinfo is not None:
            moment = moment.astimezone(UTC).replace(tzinfo=None)
    except (ValueError, OverflowError):  # such as the 31st of February
        return None
    return (moment - EPOCH) / timedelta(days=1)
