"""The name of a slice: one rule for the job, which reads Python values, and for pages, which count in SQL.

rmeval/selectors/slices.py says the same of a jsonb column; tests/rmeval/test_slices.py holds the two together.
"""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

NO_VALUE = "(none)"
OTHERS = "(all others)"


def slice_name(value: Any) -> str:
    """A metadata value as PostgreSQL writes it as text; "(none)" for null, an empty text and a missing key.

    true and false are lower case, numbers have no exponent, lists and objects are JSON.
    """
    if value is None or value == "":
        return NO_VALUE
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return format(Decimal(repr(value)), "f")
    return json.dumps(value, ensure_ascii=False)
