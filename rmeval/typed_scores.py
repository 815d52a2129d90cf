"""The result of a run of kind score_text for a page: rewards side by side, and everything else the families told."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from rmeval.models import Checkpoint, Run
from workers.families import FAMILIES
from workers.person import takes_pairs

BAR = 100
COUNTS = frozenset({"n_context", "k_star"})
"""Whole numbers that count or name something: no reward, so no sign and no bar."""
SHOWN_TOKENS = 3000
UNSIGNED = frozenset({"router", "gating", "sigma", "spread", "sd", "probability", "comparable"})
"""Shares, probabilities and spreads: never below zero, so no sign."""
TITLES = {
    "attributes": "Attributes",
    "rewards": "Ratings before the gate",
    "gating": "Gate: how much each attribute weighs for this prompt",
    "coefficients": "Gate and transform: what each rating is multiplied by",
    "heads": "Rewards of the heads",
    "router": "Router: how much each head weighs",
    "members": "Members of the ensemble",
}
LABELS = {
    "spread": "Spread (standard deviation)",
    "sd": "Standard deviation",
    "probability": "Probability of right",
    "n_context": "Pairs of the person",
    "k_star": "Surest head",
    "mu": "Means of the heads",
    "sigma": "Spreads of the heads",
}


@dataclass(frozen=True)
class Bar:
    """A number with its bar: from `x` on, `width` wide, both of 100; `zero` is where nothing stands."""

    value: float | None
    x: float = 0.0
    width: float = 0.0
    zero: float = 0.0
    is_best: bool = False
    why: str = ""
    text: str = ""
    is_signed: bool = True

    @property
    def shown(self) -> str:
        if self.value is None:
            return self.text or "–"
        return signed(self.value) if self.is_signed else f"{self.value:.4g}"

    @property
    def is_negative(self) -> bool:
        return self.value is not None and self.value < 0


@dataclass(frozen=True)
class Table:
    """Rows of one number a response."""

    title: str
    rows: list[tuple[str, list[Bar]]]


@dataclass(frozen=True)
class Token:
    """level: n2 to p2, how much of the largest number of a token this one has: of its value where there are values."""

    text: str
    shown: str
    level: str
    reward: str
    value: str = ""


@dataclass(frozen=True)
class Step:
    number: int
    text: str
    bar: Bar
    is_lowest: bool


@dataclass(frozen=True)
class Told:
    """What is told of one response alone."""

    number: int
    tokens: list[Token] = field(default_factory=list)
    n_hidden: int = 0
    steps: list[Step] = field(default_factory=list)
    contributions: list[dict[str, Any]] = field(default_factory=list)
    rest: dict[str, Any] = field(default_factory=dict)

    @property
    def has_values(self) -> bool:
        return any(token.value for token in self.tokens)


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
        return bool(self.tables or self.told)


@dataclass(frozen=True)
class TypedScores:
    """Everything the page shows; `responses` are the texts, to be recognised in the table's head."""

    responses: list[str]
    models: list[ModelScores]
    person: str = ""
    impersonal: list[ModelScores] = field(default_factory=list)
    """Models that were chosen, and not asked, as they know nobody."""


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
    best = max((v for v in values if v is not None), default=None)
    bars = [
        Bar(
            **{
                **vars(bar),
                "is_best": len(values) > 1 and bar.value is not None and bar.value == best,
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


def bars_of(values: Sequence[Any], *, is_signed: bool = True) -> list[Bar]:
    """Bars on one scale, which holds zero."""
    numbers = [v for v in values if is_number(v)]
    low, high = min([0.0, *numbers]), max([0.0, *numbers])
    span = (high - low) or 1.0
    zero = -low / span * BAR
    made = []
    for value in values:
        if not is_number(value):
            made.append(Bar(None, zero=round(zero, 2), text="" if value is None else str(value)))
            continue
        end = (value - low) / span * BAR
        x, width = round(min(zero, end), 2), round(abs(end - zero), 2)
        made.append(Bar(value, x, width, round(zero, 2), is_signed=is_signed))
    return made


def attributes_of(checkpoint: Checkpoint | None) -> list[str]:
    """Names in the order of the reward model: the database keeps none inside a result."""
    return list((checkpoint.reward_model.config if checkpoint else {}).get("attributes") or [])


def tables_of(parts: Sequence[dict[str, Any]], order: Sequence[str] = ()) -> list[Table]:
    """Single numbers and words in one table, named numbers and lists of numbers in one each."""
    keys = list(dict.fromkeys(key for part in parts for key in part))
    single = [key for key in keys if any(is_plain(part.get(key)) for part in parts)]
    tables = []
    if single:
        rows = [
            (label_of(k), bars_of([told_as(k, p.get(k)) for p in parts], is_signed=k not in UNSIGNED)) for k in single
        ]
        tables.append(Table("", rows))
    for key in keys:
        if named := [named_numbers(part.get(key)) for part in parts]:
            found = list(dict.fromkeys(name for one in named for name in one))
            names = [*(name for name in order if name in found), *(name for name in found if name not in order)]
            if names:
                title = TITLES.get(key, label_of(key))
                tables.append(named_table(title, names, named, is_signed=key not in UNSIGNED))
    return tables


def named_table(title: str, names: list[str], named: list[dict[str, float]], *, is_signed: bool) -> Table:
    """All bars of a table are on one scale."""
    flat = bars_of([one.get(name) for name in names for one in named], is_signed=is_signed)
    n = len(named)
    return Table(title, [(name, flat[i * n : (i + 1) * n]) for i, name in enumerate(names)])


def named_numbers(value: Any) -> dict[str, float]:
    if isinstance(value, dict) and value and all(is_number(v) or v is None for v in value.values()):
        return dict(value)
    if isinstance(value, list) and value and all(is_number(v) for v in value):
        return {str(number): v for number, v in enumerate(value, start=1)}
    return {}


def told_of(number: int, part: dict[str, Any]) -> Told | None:
    """What cannot stand side by side: tokens, steps, contributions; the rest as it came."""
    special = {"tokens", "steps", "top3"}
    rest = {k: v for k, v in part.items() if k not in special and not is_plain(v) and not named_numbers(v) and v}
    tokens = part.get("tokens") or []
    found = Told(
        number=number,
        tokens=tokens_of(tokens[:SHOWN_TOKENS]),
        n_hidden=max(0, len(tokens) - SHOWN_TOKENS),
        steps=steps_of(part.get("steps") or []),
        contributions=part.get("top3") or [],
        rest=rest,
    )
    return found if found.tokens or found.steps or found.contributions or found.rest else None


def tokens_of(tokens: Sequence[dict[str, Any]]) -> list[Token]:
    """The strip shows values where a model tells them beside the rewards, else the rewards."""
    has_values = any(token.get("value") is not None for token in tokens)
    numbers = [(token.get("value") if has_values else token["reward"]) or 0.0 for token in tokens]
    largest = max((abs(number) for number in numbers), default=0.0) or 1.0
    levels = {-2: "n2", -1: "n1", 0: "z", 1: "p1", 2: "p2"}
    made = []
    for token, number in zip(tokens, numbers, strict=True):
        reward, value = signed(token["reward"]), signed(number) if has_values else ""
        shown = f"value {value}, reward {reward}" if has_values else reward
        made.append(Token(visible(token["text"]), shown, levels[round(2 * number / largest)], reward, value))
    return made


def visible(text: str) -> str:
    """A token that is only a line break, or part of a character, must still be there to see."""
    return text.replace("\n", "↵\n") if text else "·"


def steps_of(steps: Sequence[dict[str, Any]]) -> list[Step]:
    values = [next((step[name] for name in ("probability", "reward", "value") if name in step), None) for step in steps]
    is_signed = not any("probability" in step for step in steps)
    lowest = min((v for v in values if v is not None), default=None)
    return [
        Step(number, str(step.get("text", "")), bar, is_lowest=len(steps) > 1 and bar.value == lowest)
        for number, (step, bar) in enumerate(zip(steps, bars_of(values, is_signed=is_signed), strict=True), start=1)
    ]


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_plain(value: Any) -> bool:
    return isinstance(value, int | float | str)


def told_as(key: str, value: Any) -> Any:
    """A count as a word, which has no bar. Heads are numbered from 1, as in the tables of their numbers."""
    if key not in COUNTS or not is_number(value):
        return value
    return f"{value + (key == 'k_star'):g}"


def label_of(key: str) -> str:
    text = LABELS.get(key) or key.removeprefix("n_").replace("_", " ")
    return text[:1].upper() + text[1:]


def signed(value: float) -> str:
    """Four figures with a sign, the minus as wide as the plus."""
    text = f"{value:+.4g}"
    return text.replace("-", "−")
