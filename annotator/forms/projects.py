"""Forms of projects, members and invitations."""

from django import forms

from annotator.models import Project, Role
from annotator.services.projects import MAX_INVITATION_DAYS


class ProjectForm(forms.ModelForm[Project]):
    class Meta:
        model = Project
        fields = ("name", "description")
        widgets = {"description": forms.Textarea(attrs={"rows": 4})}
        help_texts = {"description": "Markdown. Shown to every member."}


class RoleForm(forms.Form):
    role = forms.ChoiceField(choices=Role.choices)


class InvitationForm(forms.Form):
    role = forms.ChoiceField(choices=Role.choices, initial=Role.ANNOTATOR)
    days = forms.IntegerField(label="Valid for (days)", min_value=1, max_value=MAX_INVITATION_DAYS, initial=7)
    email = forms.EmailField(
        required=False, label="For", help_text="Only a note to yourself: nothing is sent, and it is not checked."
    )
