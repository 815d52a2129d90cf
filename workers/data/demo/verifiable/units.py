"""Unit conversions. Wrong responses divide where they should multiply, take a wrong factor or forget an offset."""

from __future__ import annotations

from random import Random

from workers.data.demo.verifiable.problem import Problem, answered, bare, number

# from, one of it, to, factor, a factor people mistake it for
LINEAR = (
    ("km", "km", "m", 1000.0, 100.0),
    ("m", "m", "cm", 100.0, 1000.0),
    ("kg", "kg", "g", 1000.0, 100.0),
    ("litres", "litre", "ml", 1000.0, 100.0),
    ("hours", "hour", "minutes", 60.0, 100.0),
    ("days", "day", "hours", 24.0, 12.0),
    ("weeks", "week", "days", 7.0, 5.0),
    ("feet", "foot", "inches", 12.0, 10.0),
    ("miles", "mile", "km", 1.609, 1.852),
    ("inches", "inch", "cm", 2.54, 2.45),
    ("pounds", "pound", "kg", 0.4536, 0.5436),
)
PROMPTS = (
    "How many {to} are {value} {source}?",
    "Convert {value} {source} to {to}.",
    "{value} {source} in {to}?",
    "I have {value} {source} in my notes but need {to}. What is that, and how do you get there?",
    "Please turn {value} {source} into {to} and show the calculation.",
)


def units(rng: Random) -> Problem:
    return _temperature(rng) if rng.random() < 0.2 else _linear(rng)


def _linear(rng: Random) -> Problem:
    source, one, to, factor, mistaken = rng.choice(LINEAR)
    value = rng.choice((rng.randint(2, 60), rng.randint(11, 99) / 10, rng.randint(101, 999) / 10))
    answer = f"{number(value * factor)} {to}"
    if rng.random() < 0.5:
        wrong_answer, error = f"{number(value * mistaken)} {to}", "wrong_factor"
        wrong = _explain(number(value), one, to, factor=number_of(mistaken), sign="×", answer=wrong_answer, rng=rng)
    else:
        wrong_answer, error = f"{number(value / factor)} {to}", "wrong_operation"
        wrong = _explain(number(value), one, to, factor=number_of(factor), sign="÷", answer=wrong_answer, rng=rng)
    right = _explain(number(value), one, to, factor=number_of(factor), sign="×", answer=answer, rng=rng)
    return Problem(
        prompt=rng.choice(PROMPTS).format(value=number(value), source=source, to=to),
        truth=answer,
        candidates=answered(
            right=right,
            wrong=wrong,
            short=bare(answer, rng=rng),
            short_wrong=bare(wrong_answer, rng=rng),
            error=error,
            rng=rng,
        ),
        topic="unit conversion",
        difficulty="easy" if factor == int(factor) else "medium",
    )


def _temperature(rng: Random) -> Problem:
    value = rng.randint(-20, 45)
    scaled = value * 1.8
    answer, wrong_answer = f"{number(scaled + 32)} °F", f"{number(scaled)} °F"
    return Problem(
        prompt=rng.choice(PROMPTS)
        .format(value=value, source="°C", to="°F")
        .replace("How many °F are", "How much °F is"),
        truth=answer,
        candidates=answered(
            right=f"Multiply by 1.8 and add 32: {value} × 1.8 = {number(scaled)}, and + 32 gives {answer}.",
            wrong=f"Multiply by 1.8 to get from one scale to the other: {value} × 1.8 gives {wrong_answer}.",
            short=bare(answer, rng=rng),
            short_wrong=bare(wrong_answer, rng=rng),
            error="offset_forgotten",
            rng=rng,
        ),
        topic="unit conversion",
        difficulty="medium",
    )


def number_of(factor: float) -> str:
    """A factor with all of its decimals."""
    return f"{factor:,.4f}".rstrip("0").rstrip(".")


def _explain(value: str, one: str, to: str, *, factor: str, sign: str, answer: str, rng: Random) -> str:
    draw = rng.random()
    if draw < 0.34:
        return f"1 {one} is {factor} {to}, so {value} {sign} {factor} = **{answer}**."
    if draw < 0.67:
        return f"- 1 {one} = {factor} {to}\n- {value} {sign} {factor} = {answer}"
    return f"With {factor} {to} to the {one}, {value} {sign} {factor} gives {answer}."
