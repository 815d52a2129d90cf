"""The admin site: for staff, and read only but for accounts."""

import pytest
from django.contrib import admin
from django.test import Client
from django.urls import reverse

from annotator.admin import ReadOnlyAdmin
from annotator.models import LoginFailure, User
from annotator.services.accounts import FREE_ATTEMPTS
from tests.factories import PASSWORD, ApiTokenFactory, SnapshotFactory, UserFactory

pytestmark = pytest.mark.django_db
READ_ONLY = [model for model, site in admin.site._registry.items() if isinstance(site, ReadOnlyAdmin)]


@pytest.mark.parametrize("model", READ_ONLY, ids=lambda model: model.__name__)
def test_lists_open_and_nothing_can_be_added(client: Client, model: type) -> None:
    client.force_login(UserFactory(is_staff=True, is_superuser=True))
    SnapshotFactory()
    base = f"admin:{model._meta.app_label}_{model._meta.model_name}"
    assert client.get(reverse(f"{base}_changelist")).status_code == 200
    assert client.get(reverse(f"{base}_add")).status_code == 403


@pytest.mark.usefixtures("still_clock")
def test_guessing_is_slowed_at_this_door_too(client: Client) -> None:
    staff = UserFactory(is_staff=True, password=PASSWORD)
    login, other = reverse("admin:login"), reverse("annotator:login")
    for _ in range(FREE_ATTEMPTS):
        assert "Too many" not in client.post(login, {"username": staff.username, "password": "x"}).content.decode()
    good = {"username": staff.username, "password": PASSWORD}
    assert "Too many attempts" in client.post(login, good).content.decode()
    assert client.post(other, good).status_code == 429  # one count for both doors
    LoginFailure.objects.all().delete()
    plain = UserFactory(password=PASSWORD)
    assert client.post(login, {"username": plain.username, "password": PASSWORD}).status_code == 200
    assert client.post(login, good).status_code == 302


def test_only_staff_enters_and_no_digest_is_shown(client: Client) -> None:
    token = ApiTokenFactory()
    url = reverse("admin:annotator_apitoken_change", args=[token.pk])
    client.force_login(UserFactory())
    assert client.get(url).status_code == 302
    client.force_login(UserFactory(is_staff=True, is_superuser=True))
    page = client.get(url)
    assert page.status_code == 200
    assert token.digest not in page.content.decode()
    assert User in admin.site._registry
