"""The form of the playground."""

from collections.abc import Mapping
from typing import Any

from django import forms

from annotator.models import Project
from rmeval.conversation_text import STEPS, read_messages, read_steps
from rmeval.person_forms import FIELDS, PersonFields, person_field
from rmeval.selectors.playground import USUAL_RESPONSES, Candidate
from workers.jobs.score_text import MOST_RESPONSES

OTHERS = ("conversation", "reference", "context", "steps", *FIELDS)
"""Fields of one text beside the responses."""


def area(rows: int, **options: Any) -> forms.CharField:
    """A text that is sent as it is: white space at its ends belongs to it only where a model reads it."""
    return forms.CharField(max_length=100_000, widget=forms.Textarea({"rows": rows, "dir": "auto"}), **options)


class PlaygroundForm(PersonFields):
    """A conversation, its responses, whose rewards are wanted, and the checkpoints to ask.

    There are as many fields of responses, response_1 and so on, as the data or the initial values have, and no fewer
    than USUAL_RESPONSES.
    """

    conversation = area(
        5,
        help_text="One question as it is, or turns that begin with “user:” and “assistant:”, or messages as JSON.",
    )
    reference = area(2, required=False, label="Reference answer", help_text="For models that compare with one.")
    context = forms.CharField(
        max_length=10_000, required=False, label="Criterion", help_text="In words, for models that follow one."
    )
    steps = forms.ChoiceField(choices=list(STEPS.items()), required=False, help_text="For models that rate steps.")
    checkpoints = forms.MultipleChoiceField(
        label="Reward models", error_messages={"required": "Choose a reward model or more."}
    )

    def __init__(self, *args: Any, project: Project, found: list[Candidate], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.takes_person = any(one.takes_person and not one.why_not for one in found)
        if self.takes_person:
            self.offer(project)
        names = response_names(self.data if self.is_bound else self.initial)
        after = {name: self.fields.pop(name) for name in ("reference", "context", "steps", *FIELDS, "checkpoints")}
        for number, name in enumerate(names, start=1):
            self.fields[name] = area(4, label=f"Response {number}", required=number == 1)
        self.fields |= after
        self.response_names = names
        self.fields["checkpoints"].choices = [  # type: ignore[attr-defined]
            (str(one.checkpoint), one.label) for one in found if not one.why_not
        ]

    @property
    def responses(self) -> list[forms.BoundField]:
        return [self[name] for name in self.response_names]

    @property
    def may_add(self) -> bool:
        return len(self.response_names) < MOST_RESPONSES

    @property
    def may_remove(self) -> bool:
        return len(self.response_names) > USUAL_RESPONSES

    @property
    def has_options(self) -> bool:
        return any(self[name].value() or self[name].errors for name in ("reference", "context"))

    @property
    def chosen(self) -> set[str]:
        return {str(value) for value in self["checkpoints"].value() or []}

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        for name in ("conversation", *self.response_names):
            try:
                if cleaned.get(name):
                    cleaned[name] = read_messages(cleaned[name], role="user" if name == "conversation" else "assistant")
            except ValueError as error:
                self.add_error(name, str(error))
        return cleaned

    @property
    def filled(self) -> list[str]:
        """The fields that hold a response, in the order of the spec's responses."""
        return [name for name in self.response_names if self.cleaned_data.get(name)]

    def spec(self) -> dict[str, Any]:
        cleaned = self.cleaned_data
        responses = [cleaned[name] for name in self.filled]
        return {
            "checkpoints": cleaned["checkpoints"],
            "prompt": cleaned["conversation"],
            "responses": [{"messages": r, "steps": read_steps(r, cleaned["steps"])} for r in responses],
            "reference": cleaned["reference"],
            "context": cleaned["context"],
            "person": self.person(),
        }

    def add_problems(self, problems: list[Any]) -> None:
        """What the job's own spec refuses, beside the field it is about."""
        for problem in problems:
            path = problem.pointer.removeprefix("/spec").strip("/").split("/")
            field: str | None = {"prompt": "conversation"}.get(path[0], path[0])
            if path[0] == "person":
                field = person_field(path)
            if path[0] == "responses":
                place = int(path[1]) if len(path) > 1 and path[1].isdecimal() else -1
                field = self.filled[place] if 0 <= place < len(self.filled) else None
            self.add_error(field if field in self.fields else None, problem.detail)


def response_names(given: Mapping[str, Any]) -> list[str]:
    """response_1 to the last that is given, and at least the usual ones."""
    last = max((n for n in range(1, MOST_RESPONSES + 1) if f"response_{n}" in given), default=0)
    return [f"response_{n}" for n in range(1, max(last, USUAL_RESPONSES) + 1)]


def changed_texts(given: Mapping[str, Any], change: str) -> dict[str, Any]:
    """The form's values with one response more ("add") or without one ("remove 3")."""
    names = response_names(given)
    texts = [given.get(name, "") for name in names]
    word, _, number = change.partition(" ")
    if word == "add" and len(texts) < MOST_RESPONSES:
        texts.append("")
    elif word == "remove" and number.isdecimal() and 0 < int(number) <= len(texts) and len(number) < 4:
        texts.pop(int(number) - 1)
    others = {name: given[name] for name in OTHERS if name in given}
    return {**others, **{f"response_{n}": text for n, text in enumerate(texts, start=1)}}
