"""Projects and members: what a role sees, and that a lead remains."""

import json
import threading

import psycopg
import pytest
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from annotator.errors import DomainError, InvalidInput
from annotator.live import listen_dsn
from annotator.models import AuditEvent, Membership, Project, QueueRater, Role
from annotator.selectors.projects import memberships_of, project_counts, project_queues
from annotator.services.projects import (
    member_remove,
    member_set_role,
    project_archive,
    project_create,
    project_update,
)
from tests.factories import (
    DatasetFactory,
    MembershipFactory,
    ProjectFactory,
    QueueFactory,
    RaterFactory,
    UserFactory,
    member,
)

pytestmark = pytest.mark.django_db


def test_creator_leads(client: Client) -> None:
    user = UserFactory()
    client.force_login(user)
    response = client.post(reverse("annotator:project-create"), {"name": " Tone ", "description": "**Which** tone?"})
    project = Project.objects.get()
    assert project.name == "Tone"
    assert Membership.objects.get().role == Role.LEAD
    page = client.get(response["Location"]).content.decode()
    assert "<strong>Which</strong>" in page
    assert client.post(reverse("annotator:project-create"), {"name": ""}).status_code == 422


def test_home_shows_mine_and_invites_to_create(client: Client) -> None:
    user, hidden = UserFactory(), ProjectFactory(name="Hidden away")
    client.force_login(user)
    assert "No projects yet" in client.get("/").content.decode()
    mine = MembershipFactory(user=user, role=Role.VIEWER).project
    page = client.get("/").content.decode()
    assert mine.name in page
    assert hidden.name not in page
    project_archive(project=mine, actor=user, now=timezone.now())
    assert mine.name not in client.get("/").content.decode()
    assert mine.name in client.get("/?archived=1").content.decode()


@pytest.mark.parametrize("name", ["", "  ", "x" * 201, "nul\0"])
def test_project_needs_a_name(name: str) -> None:
    with pytest.raises(InvalidInput):
        project_create(name=name, creator=UserFactory())


def test_edit_and_archive_by_page(client: Client) -> None:
    lead = member(project := ProjectFactory())
    client.force_login(lead)
    client.post(reverse("annotator:project-edit", args=[project.uid]), {"name": "Renamed", "description": ""})
    project.refresh_from_db()
    assert project.name == "Renamed"
    for archive, is_away in (("1", True), ("0", False)):
        client.post(reverse("annotator:project-archive", args=[project.uid]), {"archive": archive})
        project.refresh_from_db()
        assert (project.archived_at is not None) is is_away
    assert AuditEvent.objects.filter(project=project, actor=lead).count() == 3


def test_annotator_sees_queues_and_no_figures(client: Client) -> None:
    queue = QueueFactory(n_slots=40, name="Which is kinder?")
    project = queue.project
    QueueRater.objects.create(queue=queue, rater=RaterFactory(), n_submitted=30)
    reader, annotator = member(project, Role.VIEWER, username="a-viewer"), member(project, Role.ANNOTATOR)
    url = reverse("annotator:project-detail", args=[project.uid])
    client.force_login(annotator)
    page = client.get(url).content.decode()
    assert queue.name in page
    assert reverse("annotator:queue-annotate", args=[queue.uid]) in page
    for secret in ("30 / 40", "a-viewer", queue.dataset.name, "Raters"):
        assert secret not in page
    client.force_login(reader)
    page = client.get(url).content.decode()
    for shown in ("30 / 40", "a-viewer", queue.dataset.name):
        assert shown in page
    assert reverse("annotator:queue-annotate", args=[queue.uid]) not in page
    fragment = client.get(url, headers={"HX-Request": "true"}).content.decode()
    assert "30 / 40" in fragment
    assert "<html" not in fragment


def test_counts() -> None:
    dataset = DatasetFactory(n_examples=7)
    queue = QueueFactory(dataset=dataset, n_slots=20)
    for n in (3, 0):
        QueueRater.objects.create(queue=queue, rater=RaterFactory(), n_submitted=n, active_s=n * 2.5)
    member(queue.project)
    counts = project_counts(project=queue.project)
    assert (counts.n_datasets, counts.n_examples, counts.n_queues, counts.n_slots) == (1, 7, 1, 20)
    assert (counts.n_submitted, counts.n_raters, counts.active_s, counts.n_members) == (3, 1, 7.5, 1)


def test_queries_do_not_grow_with_the_project(
    client: Client, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    lead = member(project := ProjectFactory())
    client.force_login(lead)
    for _ in range(12):
        queue = QueueFactory(dataset=DatasetFactory(project=project))
        QueueRater.objects.create(queue=queue, rater=RaterFactory(), n_submitted=1)
        member(project, Role.ANNOTATOR)
        MembershipFactory(user=lead)
    for url, most in (
        (reverse("annotator:project-detail", args=[project.uid]), 22),
        (reverse("annotator:member-list", args=[project.uid]), 9),
        ("/", 6),
    ):
        with django_assert_max_num_queries(most):
            assert client.get(url).status_code == 200
    with django_assert_max_num_queries(1):
        assert len(list(memberships_of(user=lead))) == 13
    with django_assert_max_num_queries(1):
        assert len(list(project_queues(project=project, user=lead))) == 12


def test_last_lead_cannot_go() -> None:
    lead = MembershipFactory()
    for change in (
        lambda: member_remove(membership=lead, actor=lead.user),
        lambda: member_set_role(membership=lead, role=Role.VIEWER, actor=lead.user),
    ):
        with pytest.raises(DomainError) as caught:
            change()
        assert caught.value.code == "last_lead"
    member_set_role(membership=lead, role=Role.LEAD, actor=lead.user)
    other = MembershipFactory(project=lead.project)
    member_set_role(membership=lead, role=Role.VIEWER, actor=lead.user)
    with pytest.raises(DomainError):
        member_remove(membership=other, actor=other.user)


@pytest.mark.django_db(transaction=True)
def test_two_leads_cannot_remove_each_other_at_once() -> None:
    one = MembershipFactory()
    other, barrier, refused = MembershipFactory(project=one.project), threading.Barrier(2), []

    def remove(membership: Membership) -> None:
        barrier.wait()
        try:
            member_remove(membership=membership, actor=membership.user)
        except DomainError as error:
            refused.append(error.code)
        finally:
            connection.close()

    threads = [threading.Thread(target=remove, args=[membership]) for membership in (one, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert refused == ["last_lead"]
    assert one.project.memberships.count() == 1


def test_members_page_changes_roles_and_removes(client: Client) -> None:
    lead = member(project := ProjectFactory())
    other = member(project, Role.ANNOTATOR)
    client.force_login(lead)
    client.post(reverse("annotator:member-role", args=[project.uid, other.uid]), {"role": "viewer"})
    assert Membership.objects.get(user=other).role == Role.VIEWER
    wrong = client.post(reverse("annotator:member-role", args=[project.uid, other.uid]), {"role": "king"})
    assert wrong.status_code == 422
    client.post(reverse("annotator:member-remove", args=[project.uid, other.uid]))
    assert not Membership.objects.filter(user=other).exists()
    alone = client.post(reverse("annotator:member-remove", args=[project.uid, lead.uid]))
    assert alone.status_code == 409
    assert "Make somebody else lead first" in alone.content.decode()


def test_lead_who_steps_down_lands_where_they_may_be(client: Client) -> None:
    project = ProjectFactory()
    lead, _ = member(project), member(project)
    client.force_login(lead)
    response = client.post(
        reverse("annotator:member-role", args=[project.uid, lead.uid]), {"role": "viewer"}, follow=True
    )
    assert response.status_code == 200
    assert response.redirect_chain[-1][0] == reverse("annotator:project-detail", args=[project.uid])


@pytest.mark.django_db(transaction=True)
def test_end_of_a_membership_is_told_to_open_pages() -> None:
    lead = member(project := ProjectFactory())
    leaving = MembershipFactory(project=project, role=Role.ANNOTATOR)
    with psycopg.connect(listen_dsn(), autocommit=True) as listening:
        listening.execute("LISTEN live")
        member_remove(membership=leaving, actor=lead)
        told = [json.loads(poke.payload) for poke in listening.notifies(timeout=5, stop_after=2)]
    topics = (f"project.{project.uid}", f"user.{leaving.user.uid}")
    assert told == [{"topic": topic, "event": "membership"} for topic in topics]


def test_rename_is_recorded() -> None:
    lead = member(project := ProjectFactory(name="Before"))
    project_update(project=project, name="After", description="", actor=lead)
    assert AuditEvent.objects.get().detail == {"name": "After"}
