"""The part of the playground that asks whose rewards are wanted: a rater of the project, or pairs that are pasted."""

import json
from typing import Any

from django import forms

from annotator.models import Dataset, Project, Queue, QueueRater, Snapshot
from annotator.services.snapshot_rows import rater_pseudonym
from rmeval.conversation_text import read_messages
from rmeval.raters import RaterSource, known_raters, rater_source
from rmeval.spec_forms import SuggestInput
from workers.person import LEAST_PAIRS, MOST_PAIRS, USUAL_PAIRS

FIELDS = ("person_source", "person_rater", "person_rater_key", "person_n_pairs", "person_pairs")
ROLES = {"prompt": "user", "chosen": "assistant", "rejected": "assistant"}
EXAMPLE = '{"prompt": "Why?", "chosen": "Because it is so.", "rejected": "No."}'
MOST_NAMED = 100


class PersonFields(forms.Form):
    """Both ways are there; which of them is filled in, and whether it is enough, the job's own spec checks."""

    person_source = forms.ChoiceField(
        label="Where the rater judged",
        required=False,
        help_text="The rater's choices there become the context, without those of this conversation.",
    )
    person_rater = forms.CharField(
        label="Rater",
        max_length=300,
        required=False,
        help_text="Of a queue or snapshot as exports say it (r-0123456789), of a dataset as its rows do.",
    )
    person_rater_key = forms.CharField(
        label="Metadata key of the rater", max_length=100, required=False, help_text="For a dataset alone."
    )
    person_n_pairs = forms.IntegerField(
        label="Pairs of the rater",
        min_value=LEAST_PAIRS,
        max_value=MOST_PAIRS,
        required=False,
        widget=forms.NumberInput({"placeholder": USUAL_PAIRS}),
        help_text=f"At most so many, spread evenly over all. Empty: {USUAL_PAIRS}.",
    )
    person_pairs = forms.CharField(
        label="Or pairs",
        max_length=400_000,
        required=False,
        widget=forms.Textarea({"rows": 4, "dir": "auto", "spellcheck": "false"}),
        help_text=f"Two or more, as a JSON list or one a line: <code>{EXAMPLE}</code>",
    )

    project: Project

    def offer(self, project: Project) -> None:
        """Put the places and raters of the project into the fields."""
        self.fields["person_source"].choices = [("", "–"), *places(project)]  # type: ignore[attr-defined]
        self.fields["person_rater"].widget = SuggestInput(known_names(project))
        self.fields["person_rater_key"].widget = SuggestInput(metadata_keys(project))
        self.project = project

    @property
    def has_person(self) -> bool:
        return any(self[name].value() or self[name].errors for name in FIELDS)

    def clean_person_pairs(self) -> list[dict[str, Any]]:
        try:
            return read_pairs(self.cleaned_data["person_pairs"])
        except ValueError as error:
            raise forms.ValidationError(str(error)) from error

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        if chosen := cleaned.get("person_source"):
            kind, _, uid = chosen.partition(":")
            self.clean_place(rater_source(self.project, {kind: uid}), cleaned)
        return cleaned

    def clean_place(self, place: RaterSource, cleaned: dict[str, Any]) -> None:
        """What is left out beside a place is asked for with what is known there."""
        key = cleaned.get("person_rater_key") or None
        if place.dataset and not key:
            known = ", ".join(place.dataset.metadata_keys) or "none"
            self.add_error(
                "person_rater_key",
                f"Name the key of the metadata under which {place.name} names its raters. Keys there: {known}.",
            )
        elif not cleaned.get("person_rater"):
            told = ", ".join(f"{name} ({n} pairs)" for name, n in known_raters(place, key))
            if told:
                self.add_error("person_rater", f"Name the rater. Those with most pairs there: {told}.")
            else:
                self.add_error("person_source", f"No rater is known in {place.name} by a choice yet: choose another.")

    def person(self) -> dict[str, Any] | None:
        """The part of the spec, as far as something is filled in."""
        given = {name: self.cleaned_data.get(name) for name in FIELDS}
        if not any(given.values()):
            return None
        kind, _, uid = (given["person_source"] or "").partition(":")
        return {
            "pairs": given["person_pairs"] or [],
            "source": {kind: uid} if uid else None,
            "rater": given["person_rater"] or "",
            "rater_key": given["person_rater_key"] or None,
            **({"n_pairs": given["person_n_pairs"]} if given["person_n_pairs"] else {}),
        }


def person_field(path: list[str]) -> str | None:
    """The field that a pointer below the spec's person is about."""
    name = f"person_{path[1]}" if len(path) > 1 else "person_rater"
    return name if name in FIELDS else None


def person_texts(person: dict[str, Any] | None) -> dict[str, str]:
    """The fields as an earlier run filled them."""
    if not person:
        return {}
    source = next(((kind, uid) for kind, uid in (person.get("source") or {}).items() if uid), None)
    pairs = person.get("pairs") or []
    return {
        "person_source": ":".join(source) if source else "",
        "person_rater": person.get("rater") or "",
        "person_rater_key": person.get("rater_key") or "",
        "person_n_pairs": "" if pairs else str(person.get("n_pairs") or ""),
        "person_pairs": "\n".join(json.dumps(pair, ensure_ascii=False) for pair in pairs),
    }


def read_pairs(text: str) -> list[dict[str, Any]]:
    """Pairs of a JSON list or of JSON lines; each text may be messages. ValueError names the pair that is wrong."""
    text = text.strip()
    if not text:
        return []
    try:
        found = json.loads(text) if text.startswith("[") else [json.loads(line) for line in text.splitlines() if line]
    except (ValueError, RecursionError) as error:
        raise ValueError(f"This is no JSON list and no JSON lines. A pair looks like this: {EXAMPLE}") from error
    return [read_pair(pair, number) for number, pair in enumerate(found, start=1)]


def read_pair(pair: Any, number: int) -> dict[str, Any]:
    if not isinstance(pair, dict) or set(pair) != set(ROLES):
        raise ValueError(f"Pair {number} is not an object with prompt, chosen and rejected alone, such as {EXAMPLE}")
    told = {}
    for name, role in ROLES.items():
        value = pair[name]
        if isinstance(value, str) and not value.strip():
            raise ValueError(f"The {name} of pair {number} is empty.")
        try:
            told[name] = read_messages(value if isinstance(value, str) else json.dumps(value), role=role)
        except ValueError as error:
            raise ValueError(f"The {name} of pair {number}: {error}") from error
    return told


def places(project: Project, limit: int = 200) -> list[tuple[str, str]]:
    """(value, label) of everything that knows raters: queues, snapshots, and datasets whose examples may name them."""
    queues = Queue.objects.filter(project=project, deleted_at=None).order_by("-pk")[:limit]
    cut = Snapshot.objects.filter(queue__project=project, queue__deleted_at=None, state="ready", n_rows__gt=0)
    datasets = Dataset.objects.filter(project=project, deleted_at=None, state="ready", n_preferences__gt=0)
    return [
        *((f"queue:{row.uid}", f"{row.name} (queue)") for row in queues),
        *(
            (f"snapshot:{row.uid}", f"{row.queue.name}, snapshot {row.number}")
            for row in cut.select_related("queue").order_by("-pk")[:limit]
        ),
        *((f"dataset:{row.uid}", f"{row.name} (dataset)") for row in datasets.order_by("-pk")[:limit]),
    ]


def known_names(project: Project) -> list[str]:
    """Raters of the project's queues by the pseudonyms that exports carry."""
    rows = QueueRater.objects.filter(queue__project=project).order_by("rater").distinct("rater")
    uids = rows.values_list("rater__uid", flat=True)[:MOST_NAMED]
    return [rater_pseudonym(project.uid, uid) for uid in uids]


def metadata_keys(project: Project) -> list[str]:
    """Keys of the metadata of the project's datasets, one of which may name the rater."""
    rows = Dataset.objects.filter(project=project, deleted_at=None, state="ready", n_preferences__gt=0)
    found = {key for keys in rows.order_by("-pk").values_list("metadata_keys", flat=True)[:200] for key in keys}
    return sorted(found)[:MOST_NAMED]
