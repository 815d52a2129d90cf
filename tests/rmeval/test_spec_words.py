"""What is wrong with a spec, in words that need no Python."""

import pytest

from annotator.errors import InvalidInput
from rmeval.specs import field_of, job_of, spec_clean


@pytest.mark.parametrize(
    ("pointer", "name"),
    [
        ("/spec/epochs", "epochs"),
        ("/spec/responses/0", "responses/0"),
        ("/spec/a/1/2", "a/1/2"),
        ("/0", "/0"),
        ("", ""),
    ],
)
def test_a_place_in_a_list_is_named_with_the_list(pointer: str, name: str) -> None:
    assert field_of(pointer) == name


def test_a_text_where_an_object_belongs() -> None:
    with pytest.raises(InvalidInput) as caught:
        spec_clean(job_of("score_text"), {"checkpoints": ["x"], "prompt": [], "responses": [5]})
    assert "responses/0: Input should be an object" in caught.value.detail
    assert "instance of" not in caught.value.detail
