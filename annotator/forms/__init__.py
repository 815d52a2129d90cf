"""Forms of pages, one module per resource."""
