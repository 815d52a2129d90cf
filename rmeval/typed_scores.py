"""The result of a run of kind score_text for a page: rewards side by side, and everything else the families told."""

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from rmeval.models import Checkpoint, Run
from rmeval.typed_parts import BAR, Bar, Table, Told, bars_of, tables_of, told_of
from workers.families import FAMILIES
from workers.person import takes_pairs

LEAST_TO_GROUP = 6
"""Reward models from which on one does not see at a glance which of them agree."""


@dataclass(frozen=True)
class ModelScores:
    """One reward model's answer."""

    uid: str
    name: str
    family: str
    reward_model: UUID | None
    bars: list[Bar]
    error: dict[str, str] | None
    tables: list[Table]
    told: list[Told]
    notes: list[str]

    @property
    def has_more(self) -> bool:
        return self.tells or bool(self.notes)

    @property
    def tells(self) -> bool:
        return bool(self.tables or self.told)

    @property
    def has_tokens(self) -> bool:
        return any(told.tokens for told in self.told)

    @property
    def has_values(self) -> bool:
        return any(told.has_values for told in self.told)

    @property
    def more(self) -> str:
        """What stands behind the model's row, in a few words."""
        single = [name for table in self.tables if not table.title for name, _ in table.rows]
        words = [*single, *(table.title.partition(":")[0] for table in self.tables if table.title)]
        for name, word in (("tokens", "Tokens"), ("steps", "Steps"), ("contributions", "Contributions")):
            words += [word] * any(getattr(told, name) for told in self.told)
        shown = [words[0], *(word[0].lower() + word[1:] for word in words[1:4])] if words else ["What was cut"]
        return ", ".join([*shown, "…"] if len(words) > 4 else shown)

    @property
    def highest(self) -> int | None:
        """The number of the response with the highest reward; 0 where all are equal, None where nothing compares."""
        values = [bar.value for bar in self.bars if bar.value is not None]
        if len(values) < 2:
            return None
        found = [number for number, bar in enumerate(self.bars, start=1) if bar.is_best]
        return found[0] if len(found) == 1 else 0


@dataclass(frozen=True)
class Group:
    """Reward models that agree which response is the best."""

    title: str
    models: list[ModelScores]


@dataclass(frozen=True)
class TypedScores:
    """Everything the page shows; `responses` are the texts, to be recognised in the table's head."""

    responses: list[str]
    models: list[ModelScores]
    person: str = ""
    impersonal: list[ModelScores] = field(default_factory=list)
    """Models that were chosen, and not asked, as they know nobody."""

    @property
    def n_columns(self) -> int:
        return 1 + len(self.responses)

    @property
    def n_compared(self) -> int:
        return sum(model.highest is not None for model in self.models)

    @property
    def tally(self) -> list[Bar]:
        """For each response, how many reward models give it the highest reward; empty for fewer than two models."""
        if (n := self.n_compared) < 2:
            return []
        found = [model.highest for model in self.models]
        counts = [found.count(number) for number in range(1, len(self.responses) + 1)]
        return [Bar(count, width=round(count / n * BAR, 2), is_signed=False) for count in counts]

    @property
    def groups(self) -> list[Group]:
        """By the response that is highest, where there are too many models to see that at a glance; else one group."""
        if len(self.models) < LEAST_TO_GROUP or self.n_compared < 2:
            return [Group("", self.models)]
        numbers = range(1, len(self.responses) + 1)
        titles: dict[int | None, str] = {number: f"Response {number} is highest" for number in numbers}
        titles |= {0: "More than one is highest", None: "Nothing to compare"}
        groups = [Group(title, [m for m in self.models if m.highest == number]) for number, title in titles.items()]
        return [group for group in groups if group.models]


def typed_scores(run: Run) -> TypedScores | None:
    """None until the run has ended well."""
    if run.kind != "score_text" or not run.result:
        return None
    rows = run.result["rewards"]
    known = Checkpoint.objects.filter(reward_model__project=run.project_id, uid__in=[row["checkpoint"] for row in rows])
    names = {str(c.uid): c for c in known.select_related("reward_model")}
    texts = [" ".join(turn["content"] for turn in text["messages"]) for text in run.spec["responses"]]
    models = [model_scores(row, names.get(row["checkpoint"])) for row in rows]
    person = run.result.get("person")
    impersonal = [model for model in models if person and model.error and is_impersonal(model.family)]
    return TypedScores(texts, [model for model in models if model not in impersonal], person_told(person), impersonal)


def is_impersonal(family: str) -> bool:
    return family in FAMILIES and not takes_pairs(family)


def person_told(person: dict[str, Any] | None) -> str:
    """Whose rewards these are; empty where nobody's in particular."""
    if not person:
        return ""
    n, left = person["n_pairs"], person["n_same_prompt"]
    who = f"rater {person['rater']}" if person["rater"] else "the person of the given pairs"
    same = "choice about this very conversation is" if left == 1 else "choices about this very conversation are"
    return f"As {who} would see it, known by {n} pairs" + (f"; {left} {same} left out." if left else ".")


def model_scores(row: dict[str, Any], checkpoint: Checkpoint | None) -> ModelScores:
    values: list[float | None] = row["values"]
    numbers = [v for v in values if v is not None]
    best = max(numbers) if len(set(numbers)) > 1 else None
    bars = [
        Bar(
            **{
                **vars(bar),
                "is_best": bar.value is not None and bar.value == best,
                "why": why or "",
            }
        )
        for bar, why in zip(bars_of(values), row["reasons"], strict=True)
    ]
    parts = [part or {} for part in row["parts"]]
    return ModelScores(
        uid=row["checkpoint"],
        name=str(checkpoint) if checkpoint else "a checkpoint that is gone",
        family=row["family"],
        reward_model=checkpoint.reward_model.uid if checkpoint else None,
        bars=bars,
        error=row["error"],
        tables=tables_of(parts, attributes_of(checkpoint)),
        told=[found for number, part in enumerate(parts, start=1) if (found := told_of(number, part))],
        notes=notes_of(row),
    )


def notes_of(row: dict[str, Any]) -> list[str]:
    notes = []
    if row.get("n_truncated"):
        notes.append("The conversation is longer than this model reads: its start was dropped.")
    if row.get("n_response_cut"):
        n = row["n_response_cut"]
        said = "One of the responses is longer than this model reads: its" if n == 1 else None
        notes.append(f"{said or f'{n} of the responses are longer than this model reads: their'} end was cut.")
    return notes


def attributes_of(checkpoint: Checkpoint | None) -> list[str]:
    """Names in the order of the reward model: the database keeps none inside a result."""
    return list((checkpoint.reward_model.config if checkpoint else {}).get("attributes") or [])
