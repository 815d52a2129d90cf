"""An archived project is read-only: every address that would change something in it answers 409 and says why."""

from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from annotator.errors import ProjectArchived
from annotator.middleware import changes_something
from annotator.models import Assignment, Dataset, Membership, Project, Queue, Role
from annotator.services.snapshots import snapshot_cut
from tests.factories import MembershipFactory
from tests.routes import API, OWNER, PUBLIC, ROUTES, SIGNED_IN
from tests.test_permissions import World, call, world  # noqa: F401 - a fixture

pytestmark = pytest.mark.django_db
CASES = [
    (name, method, allowed)
    for name, route in ROUTES.items()
    for method, allowed in route.allowed.items()
    if "token" not in route.objects.values() and allowed not in (PUBLIC, SIGNED_IN)
]


@pytest.mark.parametrize(("name", "method", "allowed"), CASES)
def test_writes_are_refused_and_reads_are_not(world: World, name: str, method: str, allowed: Any) -> None:  # noqa: F811
    Project.objects.filter(uid=world.names["project"]).update(archived_at=timezone.now())
    who = Role.ANNOTATOR if allowed == OWNER else next(role for role in (Role.LEAD, *Role) if role in allowed)
    response = call(name, method, world.names, world.people[who])
    if not changes_something(method.upper(), name.rpartition(":")[2]):
        assert b"project_archived" not in response.content if not response.streaming else True
        assert response.status_code != 409 or b"is archived, so nothing" not in response.content
        return
    assert response.status_code == 409, f"{response.status_code} {response.content[:300]!r}"
    if name in API:
        assert response["Content-Type"] == "application/problem+json"
        assert response.json()["code"] == "project_archived"
    assert b"Its lead can take it back out" in response.content


def test_access_is_taken_away_by_page_and_by_rest(world: World) -> None:  # noqa: F811
    project = Project.objects.get(uid=world.names["project"])
    by_page, by_rest = (MembershipFactory(project=project) for _ in range(2))
    Project.objects.filter(pk=project.pk).update(archived_at=timezone.now())
    lead = Client()
    lead.force_login(world.people[Role.LEAD])
    address = f"/api/v1/projects/{project.uid}/members/{by_rest.user.uid}/"
    assert lead.patch(address, {"role": "viewer"}, content_type="application/json").status_code == 409
    assert lead.delete(address).status_code == 204
    assert lead.post(reverse("annotator:member-remove", args=[project.uid, by_page.user.uid])).status_code == 302
    assert not Membership.objects.filter(pk__in=[by_page.pk, by_rest.pk]).exists()


def test_services_refuse_too(world: World, tmp_path: Any) -> None:  # noqa: F811
    """The command line goes past every view."""
    project = Project.objects.get(uid=world.names["project"])
    project.archived_at = timezone.now()
    project.save()
    file = tmp_path / "pairs.jsonl"
    file.write_text('{"prompt": "p", "chosen": "a", "rejected": "b"}')
    before = Dataset.objects.count(), Assignment.objects.count()
    with pytest.raises(CommandError, match="archived"):
        call_command("dataset_import", str(file), "--project", str(project.uid))
    with pytest.raises(ProjectArchived):
        snapshot_cut(queue=Queue.objects.get(uid=world.names["queue"]), created_by=None, now=timezone.now())
    assert (Dataset.objects.count(), Assignment.objects.count()) == before
