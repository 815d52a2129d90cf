"""Forms of accounts: log in slowly after failures, sign up by invitation, preferences."""

from typing import Any

from django import forms
from django.conf import settings
from django.contrib.admin.forms import AdminAuthenticationForm
from django.contrib.auth.forms import AuthenticationForm, UserCreationForm
from django.utils import timezone

from annotator.models import User
from annotator.requests import client_address
from annotator.services.accounts import THEMES, TooManyAttempts, login_attempt, login_succeeded

THEME_LABELS = {"auto": "As my system", "light": "Light", "dark": "Dark", "contrast": "High contrast"}


class LoginForm(AuthenticationForm):
    def clean(self) -> dict[str, Any]:
        username = self.cleaned_data.get("username") or ""
        address = client_address(self.request, n_proxies=settings.TRUSTED_PROXIES) if self.request else ""
        now = timezone.now()
        try:
            login_attempt(username=username, address=address, now=now)
        except TooManyAttempts as error:
            raise forms.ValidationError(error.detail, code=error.code) from error
        cleaned = super().clean()
        login_succeeded(username=username, address=address, now=now)
        return cleaned


class StaffLoginForm(LoginForm, AdminAuthenticationForm):
    """The door of the admin site: the same throttle, and only staff comes in."""


class SignUpForm(UserCreationForm[User]):
    """User name and password; Django's validators say what is wrong with a weak one.

    A name that differs from another only in upper and lower case is taken: it would pass for that person.
    """

    class Meta:
        model = User
        fields = ("username",)


class PreferencesForm(forms.Form):
    theme = forms.ChoiceField(choices=[(theme, THEME_LABELS[theme]) for theme in THEMES])
    language = forms.ChoiceField(
        choices=settings.LANGUAGES,
        help_text="The pages speak English so far; another language sets their direction, dates and messages of forms.",
    )


class TokenForm(forms.Form):
    name = forms.CharField(max_length=100, label="Name", help_text="Where it is used, e.g. “training pipeline”.")
