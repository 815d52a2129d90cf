"""The form of the playground."""

from typing import Any

from django import forms

from rmeval.conversation_text import STEPS, read_messages, read_steps
from rmeval.selectors.playground import MOST_RESPONSES, Candidate


def area(rows: int, **options: Any) -> forms.CharField:
    """A text that is sent as it is: white space at its ends belongs to it only where a model reads it."""
    return forms.CharField(max_length=100_000, widget=forms.Textarea({"rows": rows, "dir": "auto"}), **options)


class PlaygroundForm(forms.Form):
    """A conversation, its responses, and the checkpoints to ask."""

    conversation = area(
        5,
        help_text="One question as it is, or turns that begin with “user:” and “assistant:”, or messages as JSON.",
    )
    response_1 = area(4, label="Response 1")
    response_2 = area(4, label="Response 2", required=False)
    response_3 = area(4, label="Response 3", required=False)
    response_4 = area(4, label="Response 4", required=False)
    reference = area(2, required=False, label="Reference answer", help_text="For models that compare with one.")
    context = forms.CharField(
        max_length=10_000, required=False, label="Criterion", help_text="In words, for models that follow one."
    )
    steps = forms.ChoiceField(choices=list(STEPS.items()), required=False, help_text="For models that rate steps.")
    checkpoints = forms.MultipleChoiceField(
        label="Reward models", error_messages={"required": "Choose a reward model or more."}
    )

    def __init__(self, *args: Any, found: list[Candidate], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["checkpoints"].choices = [  # type: ignore[attr-defined]
            (str(one.checkpoint), one.label) for one in found if not one.why_not
        ]

    @property
    def more_responses(self) -> list[forms.BoundField]:
        return [self[f"response_{number}"] for number in range(3, MOST_RESPONSES + 1)]

    @property
    def has_more(self) -> bool:
        """Are fields filled in, or wrong, that fold away otherwise?"""
        return any(bound.value() or bound.errors for bound in self.more_responses)

    @property
    def has_options(self) -> bool:
        return any(self[name].value() or self[name].errors for name in ("reference", "context"))

    @property
    def chosen(self) -> set[str]:
        return {str(value) for value in self["checkpoints"].value() or []}

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        for name in ("conversation", *(f"response_{n}" for n in range(1, MOST_RESPONSES + 1))):
            try:
                if cleaned.get(name):
                    cleaned[name] = read_messages(cleaned[name], role="user" if name == "conversation" else "assistant")
            except ValueError as error:
                self.add_error(name, str(error))
        return cleaned

    def spec(self) -> dict[str, Any]:
        cleaned = self.cleaned_data
        responses = [cleaned[name] for n in range(1, MOST_RESPONSES + 1) if cleaned.get(name := f"response_{n}")]
        return {
            "checkpoints": cleaned["checkpoints"],
            "prompt": cleaned["conversation"],
            "responses": [{"messages": r, "steps": read_steps(r, cleaned["steps"])} for r in responses],
            "reference": cleaned["reference"],
            "context": cleaned["context"],
        }

    def add_problems(self, problems: list[Any]) -> None:
        """What the job's own spec refuses, beside the field it is about."""
        for problem in problems:
            path = problem.pointer.removeprefix("/spec").strip("/").split("/")
            name = {"prompt": "conversation", "responses": f"response_{int(path[1]) + 1}" if len(path) > 1 else None}
            field = name.get(path[0], path[0])
            self.add_error(field if field in self.fields else None, problem.detail)
