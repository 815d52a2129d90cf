"""What kinds of runs, families and objectives take, in three places made from the same models."""

import json
import os
from io import StringIO, TextIOWrapper
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse

from tests.factories import UserFactory
from workers import settings_page
from workers.families import FAMILIES
from workers.jobs import JOBS
from workers.objectives import OBJECTIVES

PAGE = Path(__file__).resolve().parents[2] / "docs" / "settings.md"


@pytest.fixture
def plain_job() -> None:
    """The registry as it is: the page tells real kinds alone."""


def told(*args: str) -> str:
    out = StringIO()
    call_command("settings", *args, stdout=out)
    return out.getvalue()


def test_the_page_is_fresh() -> None:
    assert PAGE.read_text() == settings_page.page(), "run: python -m workers.settings_page > docs/settings.md"


def test_the_command_names_all_and_tells_one() -> None:
    names = [line.split()[1] for line in told().splitlines()]
    assert names == [*JOBS.names(), *FAMILIES.names(), *OBJECTIVES.names()]
    said = told("train_rm")
    assert "  learning_rate (number, default " in said
    assert "  reward_model (text, required)" in said
    with pytest.raises(CommandError, match="Nothing is called 'magic'"):
        told("magic")


def test_a_reader_that_has_had_enough_sees_no_traceback() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with TextIOWrapper(os.fdopen(writer, "wb")) as closed:
        call_command("settings", "train_rm", stdout=closed)


@pytest.mark.django_db
def test_rest_answers_json_schemas(client: Client) -> None:
    address = reverse("rmeval-api:settings")
    assert client.get(address).status_code == 401
    client.force_login(UserFactory())
    found = {(row["belongs_to"], row["name"]): row for row in json.loads(client.get(address).content)}
    assert len(found) == len(JOBS.names()) + len(FAMILIES.names()) + len(OBJECTIVES.names())
    schema = found["families", "scalar_head"]["schema"]
    assert schema["properties"]["max_length"]["type"] == "integer"
    assert found["runs", "train_rm"]["title"] == JOBS.get("train_rm").title
