"""How the API picks what it answers with. Apart from schema.py: DRF reads this while it is being imported itself."""

from collections.abc import Iterable

from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request


class AnyAccept(DefaultContentNegotiation):
    """One renderer answers whatever the client says it accepts, and `?format=` is left to the view that defines it."""

    def select_renderer(
        self, request: Request, renderers: Iterable[BaseRenderer], format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        first, *others = renderers
        if others:
            chosen: tuple[BaseRenderer, str] = super().select_renderer(request, [first, *others], format_suffix)
            return chosen
        return first, str(first.media_type)
