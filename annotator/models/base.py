"""What every row seen from outside shares."""

import uuid

from django.db import models


class UidModel(models.Model):
    """A row with a public identifier; URLs and the API use it, never the integer key."""

    uid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        abstract = True
