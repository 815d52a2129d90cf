"""Accounts, API tokens and raters."""

import uuid
from typing import ClassVar

from django.contrib.auth.models import AbstractUser
from django.db import models
from django.db.models import Q

from annotator.models.base import UidModel


class User(AbstractUser):
    """A person with a login."""

    uid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    preferences = models.JSONField(default=dict, blank=True, help_text="Theme and remapped keys.")


class ApiToken(UidModel):
    """A bearer token. Only its SHA-256 is kept; the token itself is shown once."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="api_tokens")
    name = models.CharField(max_length=100)
    digest = models.CharField(max_length=64, unique=True)
    prefix = models.CharField(max_length=8, help_text="First characters, to recognise a token by.")
    last_used_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"{self.prefix}… ({self.name})"


class LoginFailure(models.Model):
    """Failed logins to one account from one address: what slows guessing down without locking the owner out."""

    key = models.CharField(max_length=64, primary_key=True, help_text="SHA-256 of account and address.")
    n_failed = models.PositiveIntegerField(default=0)
    last_at = models.DateTimeField()


class Rater(UidModel):
    """Whoever gives verdicts: an annotator (a person) or a judge (a model)."""

    class Kind(models.TextChoices):
        ANNOTATOR = "annotator", "annotator"
        JUDGE = "judge", "judge"

    kind = models.CharField(max_length=10, choices=Kind.choices, default=Kind.ANNOTATOR)
    user = models.OneToOneField(User, null=True, blank=True, on_delete=models.CASCADE, related_name="rater")
    name = models.CharField(max_length=150, blank=True)

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                name="rater_is_person_or_judge",
                condition=Q(kind="annotator", user__isnull=False) | Q(kind="judge", user__isnull=True),
            )
        ]

    def __str__(self) -> str:
        return self.user.username if self.user else self.name
