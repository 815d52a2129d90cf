"""The live bus: pokes leave at commit, reach subscribers, survive a cut connection, and strangers hear nothing."""

import asyncio
import uuid
from collections.abc import AsyncIterator

import pytest
from asgiref.sync import sync_to_async
from channels.routing import URLRouter
from channels.testing import WebsocketCommunicator
from django.db import connection, transaction
from django.test import Client

from annotator import live
from annotator.live import may_subscribe, poke, user_topic
from annotator.models import Membership, Project, User
from annotator.routing import websocket_urlpatterns
from annotator.services.projects import member_remove
from tests.factories import MembershipFactory, ProjectFactory, QueueFactory, UserFactory

pytestmark = pytest.mark.django_db(transaction=True)
SOON_S = 5


@pytest.fixture
async def relay_stopped() -> AsyncIterator[None]:
    """Each test has its own event loop, so its own relay; stop it before the loop closes."""
    yield
    if live._relay_task is not None:
        live._relay_task.cancel()
        await asyncio.gather(live._relay_task, return_exceptions=True)
        live._relay_task = None


async def socket_of(user: User, topics: str) -> WebsocketCommunicator:
    communicator = WebsocketCommunicator(URLRouter(websocket_urlpatterns), f"/live/?topics={topics}")
    communicator.scope["user"] = user
    return communicator


@sync_to_async
def member() -> tuple[User, Project]:
    membership = MembershipFactory.create()
    return membership.user, membership.project


@sync_to_async
def poke_committed(topic: str, event: str) -> None:
    with transaction.atomic():
        poke(topic, event)


@sync_to_async
def poke_rolled_back(topic: str) -> None:
    try:
        with transaction.atomic():
            poke(topic, "never")
            raise RuntimeError("roll back")
    except RuntimeError:
        return


@sync_to_async
def listener_pids() -> list[int]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%%'")
        return [row[0] for row in cursor.fetchall()]


@sync_to_async
def cut(pid: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s)", [pid])


async def wait_for_listener() -> int:
    for _ in range(100):
        if pids := await listener_pids():
            return pids[0]
        await asyncio.sleep(0.05)
    raise AssertionError("the relay never listened")


async def test_a_committed_poke_arrives_and_a_rolled_back_one_does_not(relay_stopped: None) -> None:
    user, project = await member()
    topic = f"project.{project.uid}"
    communicator = await socket_of(user, topic)
    assert (await communicator.connect())[0]
    assert await communicator.receive_json_from(SOON_S) == {"event": "ready"}
    await wait_for_listener()
    await poke_rolled_back(topic)
    await poke_committed(topic, "changed")
    assert await communicator.receive_json_from(SOON_S) == {"topic": topic, "event": "changed"}
    assert await communicator.receive_nothing()
    await communicator.disconnect()


async def test_what_a_client_sends_is_dropped(relay_stopped: None) -> None:
    user, project = await member()
    topic = f"project.{project.uid}"
    communicator = await socket_of(user, topic)
    await communicator.connect()
    await communicator.receive_json_from(SOON_S)
    await wait_for_listener()
    await communicator.send_to(text_data="{not json")
    await communicator.send_to(bytes_data=b"\0\1")
    await communicator.send_to(text_data='{"type": "live.poke", "topic": "*", "event": "resync"}')
    await poke_committed(topic, "changed")
    assert await communicator.receive_json_from(SOON_S) == {"topic": topic, "event": "changed"}
    await communicator.disconnect()


async def test_after_a_cut_connection_every_page_is_told_to_look_again(relay_stopped: None) -> None:
    user, project = await member()
    topic = f"project.{project.uid}"
    communicator = await socket_of(user, topic)
    await communicator.connect()
    await communicator.receive_json_from(SOON_S)
    await cut(await wait_for_listener())
    assert await communicator.receive_json_from(SOON_S) == {"topic": topic, "event": "resync"}
    await poke_committed(topic, "later")
    assert await communicator.receive_json_from(SOON_S) == {"topic": topic, "event": "later"}
    await communicator.disconnect()


async def test_membership_that_ended_closes_the_socket(relay_stopped: None) -> None:
    user, project = await member()
    topic = f"project.{project.uid}"
    communicator = await socket_of(user, topic)
    await communicator.connect()
    await communicator.receive_json_from(SOON_S)
    await wait_for_listener()
    await Membership.objects.filter(user=user, project=project).adelete()
    await poke_committed(user_topic(user), "membership")
    closed = await communicator.receive_output(SOON_S)
    assert (closed["type"], closed["code"]) == ("websocket.close", 4403)


async def test_removing_a_member_closes_the_sockets_of_pages_below_the_project(relay_stopped: None) -> None:
    user, project = await member()
    queue = await sync_to_async(QueueFactory.create)(dataset__project=project)
    lead = await sync_to_async(MembershipFactory.create)(project=project)
    communicator = await socket_of(user, f"queue.{queue.uid}")
    await communicator.connect()
    assert await communicator.receive_json_from(SOON_S) == {"event": "ready"}
    membership = await Membership.objects.select_related("project", "user").aget(user=user, project=project)
    await sync_to_async(member_remove)(membership=membership, actor=lead.user)
    closed = await communicator.receive_output(SOON_S)
    assert (closed["type"], closed["code"]) == ("websocket.close", 4403)


@sync_to_async
def deactivate(user: User) -> int:
    """As a superuser does it: the account's form without the tick at `active`."""
    client = Client()
    client.force_login(UserFactory.create(is_staff=True, is_superuser=True))
    form = {"username": user.username, "date_joined_0": "2026-01-01", "date_joined_1": "10:00"}
    return client.post(f"/admin/annotator/user/{user.pk}/change/", form).status_code


async def test_an_account_that_was_deactivated_closes_its_sockets(relay_stopped: None) -> None:
    user, project = await member()
    communicator = await socket_of(user, f"project.{project.uid}")
    await communicator.connect()
    assert await communicator.receive_json_from(SOON_S) == {"event": "ready"}
    assert await deactivate(user) == 302
    closed = await communicator.receive_output(SOON_S)
    assert (closed["type"], closed["code"]) == ("websocket.close", 4403)
    again = await socket_of(user, "")  # a socket without topics would hear what concerns everybody
    await again.connect()
    assert (await again.receive_output(SOON_S))["code"] == 4403


@pytest.mark.parametrize(
    "topic_of", [lambda p: f"project.{p.uid}", lambda p: "project.*", lambda p: f"queue.{uuid.uuid4()}"]
)
async def test_a_stranger_is_refused(topic_of: object, relay_stopped: None) -> None:
    _, project = await member()
    stranger = await sync_to_async(UserFactory.create)()
    communicator = await socket_of(stranger, topic_of(project))  # type: ignore[operator]
    await communicator.connect()
    closed = await communicator.receive_output(SOON_S)
    assert closed["type"] == "websocket.close"
    assert closed["code"] == 4403


def test_may_subscribe_needs_membership() -> None:
    project = ProjectFactory.create()
    inside = MembershipFactory.create(project=project).user
    outside = UserFactory.create()
    assert may_subscribe(inside, f"project.{project.uid}")
    assert not may_subscribe(outside, f"project.{project.uid}")
    assert not may_subscribe(inside, "project.not-a-uid")
    assert not may_subscribe(inside, f"project.{'-' * 36}")
    assert not may_subscribe(inside, f"secret.{project.uid}")
