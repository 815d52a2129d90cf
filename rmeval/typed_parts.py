"""Numbers, tables, tokens and steps that the families tell of a text, as a page shows them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

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
