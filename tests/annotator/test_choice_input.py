"""A choice of a body that is not known."""

import pytest
from rest_framework import serializers

from annotator.api.fields import ChoiceInput


def test_a_refused_choice_names_the_choices() -> None:
    field = ChoiceInput(choices=[("flip", "turn the label"), ("drop", "leave the pair out")])
    assert field.run_validation("drop") == "drop"
    with pytest.raises(serializers.ValidationError) as caught:
        field.run_validation("turn")
    (error,) = caught.value.get_full_details()
    assert error == {"message": '"turn" is not known. Choose one of: flip, drop.', "code": "invalid_choice"}
    with pytest.raises(serializers.ValidationError, match="is not known"):
        field.run_validation("")
