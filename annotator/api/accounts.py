"""REST: the caller and their tokens."""

from typing import Any
from uuid import UUID

from django.urls import URLPattern, path
from django.utils import timezone
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from annotator.access import access_token
from annotator.api.fields import unknown_fields_check
from annotator.requests import user_of
from annotator.services.accounts import token_create, token_revoke


class Me(APIView):
    class Output(serializers.Serializer[Any]):
        uid = serializers.UUIDField()
        username = serializers.CharField()

    @extend_schema(operation_id="me", tags=["account"], responses=Output)
    def get(self, request: Request) -> Response:
        """Who the token or session belongs to."""
        return Response(self.Output(request.user).data)


class TokenList(APIView):
    class Input(serializers.Serializer[Any]):
        name = serializers.CharField(max_length=100, help_text="Where it is used.")

    class Output(serializers.Serializer[Any]):
        uid = serializers.UUIDField()
        name = serializers.CharField()
        prefix = serializers.CharField(help_text="First characters, to recognise it by.")
        created_at = serializers.DateTimeField()
        last_used_at = serializers.DateTimeField(allow_null=True)

    class Created(serializers.Serializer[Any]):
        uid = serializers.UUIDField()
        name = serializers.CharField()
        token = serializers.CharField(help_text="Shown this once; only a digest is kept.")

    @extend_schema(operation_id="token_list", tags=["account"], responses=Output(many=True))
    def get(self, request: Request) -> Response:
        """Your tokens that work."""
        tokens = user_of(request).api_tokens.filter(revoked_at=None).order_by("-pk")
        return Response(self.Output(tokens, many=True).data)

    @extend_schema(operation_id="token_create", tags=["account"], request=Input, responses={201: Created})
    def post(self, request: Request) -> Response:
        """Make a token for yourself."""
        unknown_fields_check(request.data, self.Input)
        data = self.Input(data=request.data)
        data.is_valid(raise_exception=True)
        token, secret = token_create(user=user_of(request), name=data.validated_data["name"])
        body = {"uid": token.uid, "name": token.name, "token": secret}
        return Response(self.Created(body).data, status=status.HTTP_201_CREATED)


class TokenDetail(APIView):
    @extend_schema(operation_id="token_revoke", tags=["account"], responses={204: OpenApiResponse(description="Gone")})
    def delete(self, request: Request, uid: UUID) -> Response:
        """Revoke one of your tokens."""
        token_revoke(token=access_token(request.user, uid), now=timezone.now())
        return Response(status=status.HTTP_204_NO_CONTENT)


account_api_urls: list[URLPattern] = [
    path("me/", Me.as_view(), name="me"),
    path("tokens/", TokenList.as_view(), name="token-list"),
    path("tokens/<uuid:uid>/", TokenDetail.as_view(), name="token-detail"),
]
