"""How the page that compares two models says its figures."""

from itertools import product

import pytest
from django.test import Client
from django.urls import reverse

from annotator.models import Dataset, Preference, Project, Role
from rmeval.models import Checkpoint
from rmeval.templatetags.rmeval_words import p_value, points
from tests.factories import DatasetFactory, member
from tests.rmeval.conftest import fill
from tests.rmeval.test_evaluation import baseline, evaluate


@pytest.mark.parametrize(
    ("value", "said"), [(-0.36, "−36.0"), (0.0204, "+2.0"), (1, "+100.0"), (0.0, "0.0"), (-0.0003, "0.0")]
)
def test_a_difference_of_shares_is_in_points(value: float, said: str) -> None:
    assert points(value) == said


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0.01234, "p = 0.0123"),
        (1, "p = 1.0000"),
        (0.0001, "p = 0.0001"),
        (0.00009, "p < 0.0001"),
        (0.0, "p < 0.0001"),
        (None, "p not known"),
    ],
)
def test_no_p_value_is_nothing(value: float | None, said: str) -> None:
    assert p_value(value) == said


@pytest.mark.django_db
def test_the_page_says_both(project: Project, dataset: Dataset, client: Client) -> None:
    plain = fill(DatasetFactory(project=project, name="The longer one is always better"), 18)
    Preference.objects.filter(dataset=plain, verdict="b").update(verdict="a")
    a, b = (baseline(project, name=name, prefer=name) for name in ("longer", "shorter"))
    for checkpoint, on in product((a, b), (dataset, plain)):
        evaluate(checkpoint, {"dataset": str(on.uid)})
    client.force_login(member(project, Role.VIEWER))
    page = shown(client, a, b, dataset)
    assert '<b>−33.3</b> points <span class="interval">[−' in page
    assert "<b>p = 0.6875</b>" in page  # 2 of 6 against 4 of 6, exact and two-sided
    page = shown(client, a, b, plain)
    assert "<b>−100.0</b> points" in page
    assert "<b>p &lt; 0.0001</b>" in page  # 2 / 2^18


def shown(client: Client, a: Checkpoint, b: Checkpoint, dataset: Dataset) -> str:
    asked = {"a": a.uid, "b": b.uid, "dataset": dataset.uid}
    return client.get(reverse("rmeval:compare"), asked).content.decode()
