"""Forms of accounts: log in slowly after failures, sign up by invitation, preferences."""

from typing import Any

from django import forms
from django.conf import settings
from django.contrib.auth.forms import AuthenticationForm, BaseUserCreationForm
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


class SignUpForm(BaseUserCreationForm[User]):
    """User name and password; Django's validators say what is wrong with a weak one."""

    class Meta:
        model = User
        fields = ("username",)


class PreferencesForm(forms.Form):
    theme = forms.ChoiceField(choices=[(theme, THEME_LABELS[theme]) for theme in THEMES])
    language = forms.ChoiceField(choices=settings.LANGUAGES)


class TokenForm(forms.Form):
    name = forms.CharField(max_length=100, label="Name", help_text="Where it is used, e.g. “training pipeline”.")
