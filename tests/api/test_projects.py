"""REST: projects, members, tokens."""

import pytest
from django.test import Client

from annotator.models import ApiToken, Membership, Role
from tests.factories import MembershipFactory, ProjectFactory, UserFactory, member

pytestmark = pytest.mark.django_db


@pytest.fixture
def lead(client: Client) -> Membership:
    membership = MembershipFactory()
    client.force_login(membership.user)
    return membership


def test_create_read_rename(client: Client) -> None:
    client.force_login(UserFactory())
    created = client.post("/api/v1/projects/", {"name": "Tone"}, content_type="application/json")
    assert created.status_code == 201
    assert created.json()["role"] == "lead"
    url = f"/api/v1/projects/{created.json()['uid']}/"
    assert client.get(url).json()["counts"]["n_members"] == 1
    renamed = client.patch(url, {"name": "Voice"}, content_type="application/json")
    assert renamed.json()["name"] == "Voice"


def test_list_is_mine_and_paged(client: Client, lead: Membership) -> None:
    for _ in range(4):
        MembershipFactory(user=lead.user, role=Role.VIEWER)
        ProjectFactory()
    first = client.get("/api/v1/projects/", {"page_size": 3}).json()
    assert [row["role"] for row in first["results"]] == ["viewer"] * 3
    rest = client.get(first["next"]).json()
    assert [row["uid"] for row in rest["results"]][-1] == str(lead.project.uid)
    assert rest["next"] is None


def test_annotators_get_no_counts(client: Client) -> None:
    membership = MembershipFactory(role=Role.ANNOTATOR)
    client.force_login(membership.user)
    assert client.get(f"/api/v1/projects/{membership.project.uid}/").json()["counts"] is None


def test_members(client: Client, lead: Membership) -> None:
    other = member(lead.project, Role.ANNOTATOR)
    url = f"/api/v1/projects/{lead.project.uid}/members/"
    assert {row["username"] for row in client.get(url).json()} == {lead.user.username, other.username}
    changed = client.patch(f"{url}{other.uid}/", {"role": "viewer"}, content_type="application/json")
    assert changed.json()["role"] == "viewer"
    assert client.patch(f"{url}{other.uid}/", {"role": "x"}, content_type="application/json").status_code == 422
    assert client.delete(f"{url}{other.uid}/").status_code == 204
    last = client.delete(f"{url}{lead.user.uid}/")
    assert (last.status_code, last.json()["code"]) == (409, "last_lead")


def test_tokens(client: Client, lead: Membership) -> None:
    made = client.post("/api/v1/tokens/", {"name": "trainer"}, content_type="application/json").json()
    api = Client(headers={"Authorization": f"Token {made['token']}"})
    assert api.get("/api/v1/me/").json()["username"] == lead.user.username
    (listed,) = api.get("/api/v1/tokens/").json()
    assert "token" not in listed
    assert listed["prefix"] == made["token"][:8]
    assert api.delete(f"/api/v1/tokens/{made['uid']}/").status_code == 204
    assert api.get("/api/v1/me/").status_code == 401
    assert ApiToken.objects.get().revoked_at is not None
