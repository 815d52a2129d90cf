"""Ways of writing examples down, one module each. `workers.data.detection` chooses among them."""

from __future__ import annotations

from typing import Any

from workers.registry import Registry

FORMATS: Registry[Any] = Registry("workers.data.formats")
