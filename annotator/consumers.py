"""One socket a page: it subscribes to the page's topics and relays pokes."""

from typing import Any

from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncJsonWebsocketConsumer

from annotator.live import ensure_relay, is_active, may_subscribe, user_topic

MAX_TOPICS = 50
FORBIDDEN, TOO_MANY = 4403, 4400


class LiveConsumer(AsyncJsonWebsocketConsumer):
    """`/live/?topics=run.<uid>,queue.<uid>`: every topic is authorised on connect and again at each resync."""

    topics: list[str]
    groups_joined: list[str]

    async def connect(self) -> None:
        self.topics, self.groups_joined = [], []
        query = self.scope["query_string"].decode("latin-1")
        wanted = [
            t
            for part in query.split("&")
            if part.startswith("topics=")
            for t in part[7:].replace("%2C", ",").split(",")
            if t
        ]
        await self.accept()
        if len(wanted) > MAX_TOPICS:
            await self.close(code=TOO_MANY)
            return
        if not await self.allowed(wanted):
            await self.close(code=FORBIDDEN)
            return
        self.topics = wanted
        self.groups_joined = [*wanted, user_topic(self.scope["user"]), "everyone"]
        for group in self.groups_joined:
            await self.channel_layer.group_add(group, self.channel_name)
        await ensure_relay()
        await self.send_json({"event": "ready"})

    async def allowed(self, topics: list[str]) -> bool:
        user = self.scope["user"]
        if not user.is_authenticated or not await database_sync_to_async(is_active)(user):
            return False
        for topic in topics:
            if not await database_sync_to_async(may_subscribe)(user, topic):
                return False
        return True

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None, **more: Any) -> None:
        """Pages only listen: whatever a client sends is dropped unread, so nothing it sends can fail here."""

    async def disconnect(self, code: int) -> None:
        for group in self.groups_joined:
            await self.channel_layer.group_discard(group, self.channel_name)

    async def live_poke(self, message: dict[str, Any]) -> None:
        if message["event"] in {"resync", "membership"} and not await self.allowed(self.topics):
            await self.close(code=FORBIDDEN)
            return
        if message["topic"] in self.topics:
            await self.send(text_data=message["text"])  # encoded once for everybody
        elif message["topic"] == "*":
            for topic in self.topics:
                await self.send_json({"topic": topic, "event": message["event"]})
