"""Training objectives: what a reward model is made to minimise."""

from typing import TYPE_CHECKING

from workers.registry import Registry

if TYPE_CHECKING:
    from workers.objectives.base import Objective

OBJECTIVES: "Registry[Objective]" = Registry("workers.objectives")
