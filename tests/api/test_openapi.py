"""docs/openapi.yaml is what the code says, and the generator has nothing to warn about."""

from io import StringIO
from pathlib import Path

import pytest
import yaml
from django.core.management import call_command
from django.test import Client
from django.urls import reverse

DOCUMENT = Path(__file__).resolve().parent.parent.parent / "docs" / "openapi.yaml"
REFRESH = "python manage.py spectacular --validate --fail-on-warn --file docs/openapi.yaml"


@pytest.fixture(scope="module")
def generated() -> str:
    out = StringIO()
    call_command("spectacular", validate=True, fail_on_warn=True, stdout=out)
    return out.getvalue()


def test_document_is_fresh(generated: str) -> None:
    assert DOCUMENT.exists(), f"run: {REFRESH}"
    assert generated.strip() == DOCUMENT.read_text().strip(), f"docs/openapi.yaml is stale; run: {REFRESH}"


def test_every_operation_says_what_it_is(generated: str) -> None:
    for path, operations in yaml.safe_load(generated)["paths"].items():
        for method, operation in operations.items():
            name = f"{method} {path}"
            assert operation.get("description"), f"{name}: the view's method needs a docstring"
            assert operation["tags"] != ["api"], f"{name}: name tags in @extend_schema"
            assert operation["operationId"].isidentifier(), name
            problem = operation["responses"]["default"]["content"]["application/problem+json"]
            assert problem["schema"]["$ref"].endswith("/Problem")


def test_schema_is_served(client: Client) -> None:
    served = client.get(reverse("schema"), headers={"Accept": "application/json"})
    assert served.status_code == 200
    assert "/api/v1/snapshots/{uid}/export/" in served.json()["paths"]
    assert client.get(reverse("schema"), {"format": "json"}).json()["openapi"].startswith("3.")
