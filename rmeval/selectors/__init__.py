"""Reads that span relations, one module per page."""
