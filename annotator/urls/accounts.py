"""Paths of accounts."""

from django.contrib.auth.views import LogoutView
from django.urls import URLPattern, path

from annotator.views import accounts

account_urls: list[URLPattern] = [
    path("login/", accounts.Login.as_view(), name="login"),
    path("logout/", LogoutView.as_view(), name="logout"),
    path("join/<str:secret>/", accounts.invitation_accept_view, name="invitation-accept"),
    path("account/", accounts.account, name="account"),
    path("account/preferences/", accounts.account_preferences, name="account-preferences"),
    path("account/password/", accounts.PasswordChange.as_view(), name="password-change"),
    path("account/tokens/", accounts.token_create_view, name="token-create"),
    path("account/tokens/<uuid:uid>/revoke/", accounts.token_revoke_view, name="token-revoke"),
]
