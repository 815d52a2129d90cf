"""Logging in, tokens, preferences, and joining by invitation."""

import threading
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client, RequestFactory
from django.urls import reverse
from django.utils import timezone

from annotator.authentication import token_digest
from annotator.errors import DomainError, InvalidInput
from annotator.models import ApiToken, Invitation, LoginFailure, Membership, Project, Role, User
from annotator.requests import client_address
from annotator.services import accounts
from annotator.services.projects import InvitationGone, account_create, invitation_accept, invitation_create
from tests.factories import (
    PASSWORD,
    ApiTokenFactory,
    InvitationFactory,
    MembershipFactory,
    ProjectFactory,
    UserFactory,
    member,
)

pytestmark = pytest.mark.django_db
NEW = {"username": "newcomer", "password1": "quite-Long-4711", "password2": "quite-Long-4711"}


def log_in(client: Client, username: str, password: str, **extra: str) -> int:
    return client.post(reverse("annotator:login"), {"username": username, "password": password}, **extra).status_code


def test_login_and_logout(client: Client) -> None:
    user = UserFactory(password=PASSWORD)
    assert log_in(client, user.username, "wrong") == 422
    assert log_in(client, user.username, PASSWORD) == 302
    assert client.get(reverse("annotator:account")).status_code == 200
    assert client.get(reverse("annotator:logout")).status_code == 405
    client.post(reverse("annotator:logout"))
    assert client.get(reverse("annotator:account")).status_code == 302


def test_login_goes_to_the_page_that_was_asked_for_but_not_to_another_site(client: Client) -> None:
    user = UserFactory(password=PASSWORD)
    login = reverse("annotator:login")
    for wanted, landing in (("/account/", "/account/"), ("https://evil.example/", "/")):
        data = {"username": user.username, "password": PASSWORD, "next": wanted}
        assert client.post(login, data)["Location"] == landing
        client.logout()


@pytest.mark.usefixtures("still_clock")
def test_guessing_is_slowed_for_one_account_from_one_address_only(client: Client) -> None:
    user, other = UserFactory(password=PASSWORD), UserFactory(password=PASSWORD)
    for _ in range(accounts.FREE_ATTEMPTS):
        assert log_in(client, user.username, "wrong") == 422
    assert log_in(client, user.username, PASSWORD) == 429
    assert log_in(client, user.username.upper(), PASSWORD) == 429
    assert log_in(Client(), other.username, PASSWORD) == 302
    assert log_in(Client(), user.username, PASSWORD, REMOTE_ADDR="203.0.113.9") == 302


@pytest.mark.usefixtures("still_clock")
def test_behind_a_proxy_the_address_is_the_one_that_the_proxy_saw(client: Client, settings: Any) -> None:
    """One client guesses; it cannot get away by writing the header itself, and others behind the proxy log in."""
    settings.TRUSTED_PROXIES = 1
    user = UserFactory(password=PASSWORD)
    for n in range(accounts.FREE_ATTEMPTS):
        assert log_in(client, user.username, "wrong", HTTP_X_FORWARDED_FOR=f"198.51.100.{n}, 203.0.113.9") == 422
    assert log_in(client, user.username, PASSWORD, HTTP_X_FORWARDED_FOR="198.51.100.77, 203.0.113.9") == 429
    assert log_in(Client(), user.username, PASSWORD, HTTP_X_FORWARDED_FOR="203.0.113.10") == 302


@pytest.mark.parametrize(
    ("n_proxies", "header", "address"),
    [
        (0, "203.0.113.9", "192.0.2.1"),
        (1, "203.0.113.9", "203.0.113.9"),
        (1, "198.51.100.1, 203.0.113.9", "203.0.113.9"),
        (2, "198.51.100.1, 203.0.113.9, 192.0.2.7", "203.0.113.9"),
        (2, "203.0.113.9", "192.0.2.1"),
        (1, "2001:DB8::1", "2001:db8::1"),
        (1, "unknown", "192.0.2.1"),
        (1, "", "192.0.2.1"),
    ],
)
def test_client_address(rf: RequestFactory, n_proxies: int, header: str, address: str) -> None:
    request = rf.get("/", REMOTE_ADDR="192.0.2.1", HTTP_X_FORWARDED_FOR=header)
    assert client_address(request, n_proxies=n_proxies) == address


def test_wait_grows_and_is_forgotten() -> None:
    now = timezone.now()
    who = {"username": "ann", "address": "192.0.2.1"}
    for _ in range(accounts.FREE_ATTEMPTS):
        accounts.login_attempt(**who, now=now)
    with pytest.raises(accounts.TooManyAttempts) as caught:
        accounts.login_attempt(**who, now=now)
    assert "2 s" in caught.value.detail
    accounts.login_attempt(**who, now=now + timedelta(seconds=3))
    with pytest.raises(accounts.TooManyAttempts):
        accounts.login_attempt(**who, now=now + timedelta(seconds=5))
    later = now + timedelta(hours=1)
    accounts.login_attempt(**who, now=later)
    assert LoginFailure.objects.get().n_failed == 1
    accounts.login_succeeded(**who, now=later)
    assert not LoginFailure.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_parallel_guesses_do_not_pass_together() -> None:
    now, passed, barrier = timezone.now(), [], threading.Barrier(12)

    def guess() -> None:
        barrier.wait()
        try:
            accounts.login_attempt(username="ann", address="192.0.2.1", now=now)
            passed.append(1)
        except accounts.TooManyAttempts:
            pass
        finally:
            connection.close()

    threads = [threading.Thread(target=guess) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(passed) == accounts.FREE_ATTEMPTS


def test_password_change_keeps_this_browser_and_ends_others(client: Client) -> None:
    user = UserFactory(password=PASSWORD)
    elsewhere = Client()
    log_in(client, user.username, PASSWORD)
    log_in(elsewhere, user.username, PASSWORD)
    url = reverse("annotator:password-change")
    wrong = {"old_password": "no", "new_password1": "quite-Long-4711", "new_password2": "quite-Long-4711"}
    assert client.post(url, wrong).status_code == 422
    assert client.post(url, {**wrong, "old_password": PASSWORD}).status_code == 302
    assert client.get(reverse("annotator:account")).status_code == 200
    assert elsewhere.get(reverse("annotator:account")).status_code == 302


def test_token_is_shown_once_and_stored_as_a_digest(client: Client) -> None:
    user = UserFactory()
    client.force_login(user)
    page = client.post(reverse("annotator:token-create"), {"name": "trainer"})
    secret = page.context["new_secret"]
    assert page.status_code == 201
    assert secret in page.content.decode()
    assert page["Cache-Control"].startswith("max-age=0")
    token = ApiToken.objects.get()
    assert (token.digest, token.prefix) == (token_digest(secret), secret[:8])
    assert secret not in client.get(reverse("annotator:account")).content.decode()
    api = Client(headers={"Authorization": f"Token {secret}"})
    assert api.get(reverse("annotator-api:me")).json()["username"] == user.username
    token.refresh_from_db()
    assert token.last_used_at is not None
    client.post(reverse("annotator:token-revoke", args=[token.uid]))
    assert api.get(reverse("annotator-api:me")).status_code == 401


def test_token_needs_a_name_and_there_is_a_limit() -> None:
    user = UserFactory()
    with pytest.raises(InvalidInput):
        accounts.token_create(user=user, name=" ")
    for _ in range(accounts.MAX_TOKENS):
        ApiTokenFactory(user=user)
    with pytest.raises(DomainError, match="Revoke one"):
        accounts.token_create(user=user, name="one more")


def test_token_command_prints_a_token_that_works() -> None:
    user, out = UserFactory(), StringIO()
    call_command("token", user.username, stdout=out)
    assert ApiToken.objects.get(digest=token_digest(out.getvalue().strip())).user == user
    with pytest.raises(CommandError, match="no user"):
        call_command("token", "nobody")


def test_token_of_an_inactive_person_does_not_work() -> None:
    token = ApiTokenFactory(secret="known", user__is_active=False)
    assert token.pk
    response = Client(headers={"Authorization": "Token known"}).get(reverse("annotator-api:me"))
    assert response.status_code == 401
    assert response["WWW-Authenticate"] == "Token"


def test_preferences_set_theme_and_language(client: Client) -> None:
    user = UserFactory(preferences={"keys": {"tie": "t"}})
    client.force_login(user)
    response = client.post(reverse("annotator:account-preferences"), {"theme": "dark", "language": "de"})
    assert response.cookies["django_language"].value == "de"
    page = client.get(reverse("annotator:account")).content.decode()
    assert 'data-theme="dark"' in page
    assert 'lang="de"' in page
    user.refresh_from_db()
    assert user.preferences == {"keys": {"tie": "t"}, "theme": "dark", "language": "de"}
    wrong = client.post(reverse("annotator:account-preferences"), {"theme": "pink", "language": "de"})
    assert wrong.status_code == 422


def test_demo_logins_are_shown_only_with_a_demo_and_name_no_guest(client: Client, settings: object) -> None:
    page = reverse("annotator:login")
    MembershipFactory(user__username="ann1")
    assert "ann1" not in client.get(page).content.decode()
    demo = ProjectFactory(is_demo=True)
    MembershipFactory(project=demo, user__username="viewer")
    MembershipFactory(project=demo, user__username="a-guest")
    shown = client.get(page).content.decode()
    assert "viewer" in shown
    assert settings.DEMO_PASSWORD in shown
    assert "a-guest" not in shown
    settings.DEMO_LOGINS = False
    assert settings.DEMO_PASSWORD not in client.get(page).content.decode()


def test_lead_invites_and_a_newcomer_signs_up(client: Client) -> None:
    lead = member(project := ProjectFactory())
    client.force_login(lead)
    data = {"role": "reviewer", "days": 3, "email": "new@example.org"}
    page = client.post(reverse("annotator:invitation-create", args=[project.uid]), data)
    link = page.context["new_link"]
    assert page.status_code == 201
    assert link not in client.get(reverse("annotator:member-list", args=[project.uid])).content.decode()
    newcomer = Client()
    path = link.removeprefix("http://testserver")
    assert project.name in newcomer.get(path).content.decode()
    assert newcomer.post(path, {**NEW, "password2": "another"}).status_code == 422
    joined = newcomer.post(path, NEW)
    assert joined["Location"] == reverse("annotator:project-detail", args=[project.uid])
    assert newcomer.get(joined["Location"]).status_code == 200
    assert Membership.objects.get(user__username="newcomer").role == Role.REVIEWER
    assert Client().get(path).status_code == 410
    assert Invitation.objects.get().accepted_by.username == "newcomer"


def test_somebody_with_an_account_joins_with_it(client: Client) -> None:
    invitation = InvitationFactory(secret="known", role=Role.VIEWER)
    path = reverse("annotator:invitation-accept", args=["known"])
    assert f"{reverse('annotator:login')}?next={path}" in client.get(path).content.decode()
    user = UserFactory()
    client.force_login(user)
    client.post(path)
    assert Membership.objects.get(user=user, project=invitation.project).role == Role.VIEWER


def test_there_is_no_sign_up_without_an_invitation(client: Client) -> None:
    response = client.post(reverse("annotator:invitation-accept", args=["made-up"]), NEW)
    assert response.status_code == 404
    assert not User.objects.filter(username="newcomer").exists()


def test_taken_name_uses_up_nothing(client: Client) -> None:
    UserFactory(username="newcomer")
    invitation = InvitationFactory(secret="known")
    path = reverse("annotator:invitation-accept", args=["known"])
    assert client.post(path, NEW).status_code == 422
    with pytest.raises(InvalidInput):
        account_create(secret="known", username="newcomer", password="x", now=timezone.now())
    invitation.refresh_from_db()
    assert invitation.accepted_at is None


def test_ended_invitations_say_why() -> None:
    now = timezone.now()
    ended = {
        "expired": {"expires_at": now - timedelta(seconds=1)},
        "withdrawn": {"revoked_at": now},
        "used before": {"accepted_at": now},
    }
    for word, values in ended.items():
        InvitationFactory(secret=word, **values)
        with pytest.raises(InvitationGone, match=word):
            invitation_accept(secret=word, user=UserFactory(), now=now)


def test_links_end_with_the_rights_of_whoever_made_them() -> None:
    """A lead who is removed, steps down or is deactivated does not come back through a link kept in a drawer."""
    for number, change in enumerate(({"role": Role.VIEWER}, {"is_active": False}, None)):
        invitation = InvitationFactory(secret=f"kept-{number}", role=Role.LEAD)
        mine = Membership.objects.filter(project=invitation.project, user=invitation.invited_by)
        if change is None:
            mine.delete()
        elif "role" in change:
            mine.update(**change)
        else:
            User.objects.filter(pk=invitation.invited_by.pk).update(**change)
        with pytest.raises(InvitationGone, match="no longer leads"):
            invitation_accept(secret=f"kept-{number}", user=UserFactory(), now=timezone.now())
        assert Client().get(reverse("annotator:invitation-accept", args=[f"kept-{number}"])).status_code == 410
        lead = Client()
        lead.force_login(member(invitation.project, Role.LEAD))
        listed = lead.get(reverse("annotator:member-list", args=[invitation.project.uid])).content.decode()
        assert "void: its maker leads no more" in listed


def test_nobody_joins_an_archived_project(client: Client) -> None:
    invitation = InvitationFactory(secret="known", role=Role.LEAD)
    Project.objects.filter(pk=invitation.project.pk).update(archived_at=timezone.now())
    path = reverse("annotator:invitation-accept", args=["known"])
    assert client.post(path, NEW).status_code == 409
    assert not User.objects.filter(username="newcomer").exists()
    client.force_login(UserFactory())
    assert client.post(path).status_code == 409
    assert Membership.objects.filter(project=invitation.project).count() == 1  # whoever invited


def test_a_name_that_differs_in_case_alone_is_taken(client: Client) -> None:
    UserFactory(username="Newcomer")
    InvitationFactory(secret="known")
    assert client.post(reverse("annotator:invitation-accept", args=["known"]), NEW).status_code == 422
    assert not User.objects.filter(username="newcomer").exists()


def test_member_does_not_use_up_an_invitation() -> None:
    invitation = InvitationFactory(secret="known", role=Role.VIEWER)
    user = member(invitation.project, Role.ANNOTATOR)
    with pytest.raises(DomainError, match="already a member"):
        invitation_accept(secret="known", user=user, now=timezone.now())
    assert Membership.objects.get(user=user).role == Role.ANNOTATOR


def test_revoked_invitation_stays_revoked(client: Client) -> None:
    invitation = InvitationFactory(secret="known")
    client.force_login(member(invitation.project))
    url = reverse("annotator:invitation-revoke", args=[invitation.uid])
    assert client.post(url).status_code == 302
    assert client.post(url).status_code == 409
    assert Client().get(reverse("annotator:invitation-accept", args=["known"])).status_code == 410


@pytest.mark.parametrize("days", [0, 91])
def test_an_invitation_ends(days: int) -> None:
    with pytest.raises(InvalidInput):
        invitation_create(
            project=ProjectFactory(), role=Role.VIEWER, invited_by=UserFactory(), now=timezone.now(), days=days
        )


@pytest.mark.django_db(transaction=True)
def test_of_two_who_open_a_link_at_once_one_gets_in() -> None:
    invitation = InvitationFactory(secret="known")
    users, barrier, lost = [UserFactory(), UserFactory()], threading.Barrier(2), []

    def join(user: User) -> None:
        barrier.wait()
        try:
            invitation_accept(secret="known", user=user, now=timezone.now())
        except InvitationGone as error:
            lost.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=join, args=[user]) for user in users]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(lost) == 1
    assert invitation.project.memberships.filter(user__in=users).count() == 1
