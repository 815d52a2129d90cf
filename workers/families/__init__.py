"""Reward-model families: what a reward model is made of, and how it gives rewards."""

from typing import TYPE_CHECKING

from workers.registry import Registry

if TYPE_CHECKING:
    from workers.families.base import Family

FAMILIES: "Registry[Family]" = Registry("workers.families")
