"""Rows, formats and how conversations become tokens."""
