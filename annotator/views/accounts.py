"""Account pages: login, invitations, preferences, password, API tokens."""

from uuid import UUID

from django.conf import settings
from django.contrib import messages
from django.contrib.auth import login
from django.contrib.auth.decorators import login_required
from django.contrib.auth.forms import AuthenticationForm, SetPasswordForm
from django.contrib.auth.views import LoginView, PasswordChangeView
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse, reverse_lazy
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from annotator.access import access_token
from annotator.errors import InvalidInput
from annotator.forms.accounts import LoginForm, PreferencesForm, SignUpForm, TokenForm
from annotator.models import User
from annotator.requests import user_of
from annotator.selectors.projects import demo_usernames
from annotator.services.accounts import preferences_update, token_create, token_revoke
from annotator.services.demo import PEOPLE
from annotator.services.projects import account_create, invitation_accept, invitation_find

MODEL_BACKEND = "django.contrib.auth.backends.ModelBackend"


class Login(LoginView):
    http_method_names = ["get", "post"]
    authentication_form = LoginForm
    redirect_authenticated_user = True

    def get_context_data(self, **kwargs: object) -> dict[str, object]:
        names = demo_usernames(among=PEOPLE) if settings.DEMO_LOGINS else []
        return super().get_context_data(**kwargs, demo_usernames=names, demo_password=settings.DEMO_PASSWORD)

    def form_valid(self, form: AuthenticationForm) -> HttpResponse:
        return with_language(super().form_valid(form), form.get_user())

    def form_invalid(self, form: AuthenticationForm) -> HttpResponse:
        blocked = any(error.code == "too_many_attempts" for error in form.non_field_errors().as_data())
        return self.render_to_response(self.get_context_data(form=form), status=429 if blocked else 422)


class PasswordChange(PasswordChangeView):
    http_method_names = ["get", "post"]
    success_url = reverse_lazy("annotator:account")

    def form_valid(self, form: "SetPasswordForm[User]") -> HttpResponse:
        messages.success(self.request, "Your password is changed. Other browsers are logged out.")
        return super().form_valid(form)

    def form_invalid(self, form: "SetPasswordForm[User]") -> HttpResponse:
        return self.render_to_response(self.get_context_data(form=form), status=422)


def with_language(response: HttpResponse, user: User) -> HttpResponse:
    """The language follows the person: Django reads it from this cookie."""
    if language := user.preferences.get("language"):
        response.set_cookie(
            settings.LANGUAGE_COOKIE_NAME,
            language,
            max_age=365 * 24 * 3600,
            samesite="Lax",
            secure=settings.SESSION_COOKIE_SECURE,
        )
    return response


@login_required
@never_cache
@require_GET
def account(request: HttpRequest) -> HttpResponse:
    return render(request, "annotator/account.html", account_context(user_of(request)))


def account_context(user: User, **more: object) -> dict[str, object]:
    chosen = {"theme": "auto", "language": settings.LANGUAGE_CODE, **user.preferences}
    return {
        "preferences_form": PreferencesForm(initial=chosen),
        "token_form": TokenForm(),
        "tokens": user.api_tokens.order_by("revoked_at", "-pk"),
        **more,
    }


@login_required
@require_POST
def account_preferences(request: HttpRequest) -> HttpResponse:
    user = user_of(request)
    form = PreferencesForm(request.POST)
    if not form.is_valid():
        return render(request, "annotator/account.html", account_context(user, preferences_form=form), status=422)
    preferences_update(user=user, **form.cleaned_data)
    messages.success(request, "Saved.")
    return with_language(redirect("annotator:account"), user)


@login_required
@never_cache
@require_POST
def token_create_view(request: HttpRequest) -> HttpResponse:
    """The answer to this POST is the only page that ever shows the token."""
    user = user_of(request)
    form = TokenForm(request.POST)
    if not form.is_valid():
        return render(request, "annotator/account.html", account_context(user, token_form=form), status=422)
    token, secret = token_create(user=user, name=form.cleaned_data["name"])
    return render(
        request, "annotator/account.html", account_context(user, new_token=token, new_secret=secret), status=201
    )


@login_required
@require_POST
def token_revoke_view(request: HttpRequest, uid: UUID) -> HttpResponse:
    token = access_token(request.user, uid)
    token_revoke(token=token, now=timezone.now())
    messages.success(request, f"The token “{token.name}” no longer works.")
    return redirect("annotator:account")


@never_cache
@sensitive_post_parameters()
@require_http_methods(["GET", "POST"])
def invitation_accept_view(request: HttpRequest, secret: str) -> HttpResponse:
    """Join a project: with the account that is logged in, or by signing up."""
    now = timezone.now()
    invitation = invitation_find(secret=secret, now=now)
    if request.user.is_authenticated:
        if request.method == "GET":
            return render(request, "annotator/account_join.html", {"invitation": invitation})
        invitation_accept(secret=secret, user=request.user, now=now)
        return welcome(request, invitation.project.name, invitation.project.uid)
    form = SignUpForm(request.POST or None)
    login_url = f"{reverse('annotator:login')}?next={request.path}"
    if request.method == "POST" and form.is_valid():
        try:
            user = account_create(
                secret=secret,
                username=form.cleaned_data["username"],
                password=form.cleaned_data["password1"],
                now=now,
            )
        except InvalidInput as error:
            form.add_error("username", error.detail)
        else:
            login(request, user, backend=MODEL_BACKEND)
            return welcome(request, invitation.project.name, invitation.project.uid)
    context = {"invitation": invitation, "form": form, "login_url": login_url}
    status = 422 if form.is_bound else 200
    return render(request, "annotator/account_join.html", context, status=status)


def welcome(request: HttpRequest, project_name: str, project_uid: UUID) -> HttpResponse:
    messages.success(request, f"You are now a member of {project_name}.")
    return redirect("annotator:project-detail", project_uid)
