"""The content security policy, which is the same for every answer."""

from functools import cache

from csp.constants import HEADER
from csp.middleware import CSPMiddleware
from csp.utils import build_policy
from django.http import HttpRequest
from django.http.response import HttpResponseBase

CHANGES = frozenset({"_csp_config", "_csp_update", "_csp_replace", "_csp_exempt"})


@cache
def usual_policy() -> str:
    return build_policy()


class PolicyMiddleware(CSPMiddleware):
    """Builds the policy once, not for every answer; one that a view changes or gives a nonce goes the usual way."""

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        if hasattr(request, "_csp_nonce") or not CHANGES.isdisjoint(vars(response)):
            return super().process_response(request, response)
        if HEADER not in response:
            response[HEADER] = usual_policy()
        return response
