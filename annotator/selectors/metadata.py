"""Values of metadata keys in queries."""

from django.db.models import F, Func, TextField, Value


def meta_text(path: str, key: str) -> Func:
    """The value of a key as text; NULL without it. Django's own transform takes a key of digits for a list index."""
    return Func(F(path), Value(key), function="jsonb_extract_path_text", output_field=TextField())
