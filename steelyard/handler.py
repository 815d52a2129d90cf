"""Django behind ASGI with one change of thread a request instead of six."""

from typing import Any

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIHandler


class OneThreadHandler(ASGIHandler):
    """Every middleware and view here is synchronous, so the whole chain runs in one hop to the request's thread.

    Django's own handler goes back to the event loop between middleware, `process_view` and view (decision 010 has the
    measurement). Streaming answers are unaffected: the handler iterates them itself.
    """

    def load_middleware(self, is_async: bool = False) -> None:
        super().load_middleware(is_async=False)
        chain: Any = self._middleware_chain  # type: ignore[has-type]
        self._middleware_chain = sync_to_async(chain, thread_sensitive=True)
