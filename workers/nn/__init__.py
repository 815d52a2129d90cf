"""torch code. Importing this package is cheap; its modules load torch."""
