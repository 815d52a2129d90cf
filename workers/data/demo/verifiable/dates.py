"""Date arithmetic. Wrong responses are off by a day, or count the rest of a month wrongly."""

from __future__ import annotations

from calendar import isleap
from datetime import date, timedelta
from random import Random

from workers.data.demo.verifiable.problem import Problem, answered, bare

MONTHS = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]
DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
AFTER_PROMPTS = (
    "What date is {n} days after {start}?",
    "A parcel leaves on {start} and takes {n} days. When does it arrive?",
    "My trial of {n} days starts on {start}. Which date is {n} days later?",
    "Add {n} days to {start}, please.",
)
WEEKDAY_PROMPTS = (
    "If {start} is a {day}, which weekday is {n} days later?",
    "{start} falls on a {day}. What weekday do we have {n} days after that?",
    "Today is {day}, {start}. Which day of the week is it in {n} days?",
)


def dates(rng: Random) -> Problem:
    start = date(2025, 1, 1) + timedelta(days=rng.randrange(1000))
    return _weekday(start, rng) if rng.random() < 0.4 else _after(start, rng)


def written(day: date) -> str:
    return f"{day.day} {MONTHS[day.month - 1]} {day.year}"


def _after(start: date, rng: Random) -> Problem:
    n = rng.randint(5, 75)
    end = start + timedelta(days=n)
    left = _days_in(start) - start.day
    inside = n <= left
    off = rng.choice([days for days in (-2, -1, 1, 2) if inside or 0 <= left - days <= n])
    answer, wrong_answer = written(end), written(end + timedelta(days=off))
    how = f"{n} days fit into {MONTHS[start.month - 1]}" if inside else f"{left} days bring us to the end of the month"
    wrong_how = how if inside else f"{left - off} days bring us to the end of the month"
    rest = "" if inside else f", and {n - left} more days remain"
    wrong_rest = "" if inside else f", and {n - left + off} more days remain"
    return Problem(
        prompt=rng.choice(AFTER_PROMPTS).format(n=n, start=written(start)),
        truth=answer,
        candidates=answered(
            right=f"From {written(start)}, {how}{rest}. That is {answer}.",
            wrong=f"From {written(start)}, {wrong_how}{wrong_rest}. That is {wrong_answer}.",
            short=bare(answer, rng=rng),
            short_wrong=bare(wrong_answer, rng=rng),
            error="off_by_days",
            rng=rng,
        ),
        topic="dates",
        difficulty="easy" if inside else "hard",
    )


def _weekday(start: date, rng: Random) -> Problem:
    n = rng.randint(8, 60)
    off = rng.choice((-1, 1, 2))
    answer = DAYS[(start.weekday() + n) % 7]
    wrong_answer = DAYS[(start.weekday() + n + off) % 7]
    weeks, rest = divmod(n, 7)
    wrong_rest = (rest + off) % 7
    day = DAYS[start.weekday()]
    return Problem(
        prompt=rng.choice(WEEKDAY_PROMPTS).format(n=n, start=written(start), day=day),
        truth=answer,
        candidates=answered(
            right=f"{n} = {weeks} × 7 + {rest}, so count {rest} on from {day}: it is a {answer}.",
            wrong=f"{n} = {weeks} × 7 + {wrong_rest}, so count {wrong_rest} on from {day}: it is a {wrong_answer}.",
            short=bare(answer, rng=rng),
            short_wrong=bare(wrong_answer, rng=rng),
            error="wrong_remainder",
            rng=rng,
        ),
        topic="dates",
        difficulty="medium",
    )


def _days_in(day: date) -> int:
    lengths = (31, 29 if isleap(day.year) else 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
    return lengths[day.month - 1]
