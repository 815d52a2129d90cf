"""What a person set for themselves on the annotate page."""

from django.db import transaction

from annotator.models import User
from annotator.shortcuts import keys_check


@transaction.atomic
def keys_save(*, user: User, keys: object) -> None:
    """Keep remapped keys; an empty object brings the defaults back."""
    checked = keys_check(keys)
    locked = User.objects.select_for_update().get(pk=user.pk)
    locked.preferences = {**locked.preferences, "keys": checked}
    locked.save(update_fields=["preferences"])
    user.preferences = locked.preferences
