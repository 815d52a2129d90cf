"""Following a format: exact numbers of points, JSON with given keys, capitals, a word limit."""

from __future__ import annotations

import json
from random import Random

from workers.data.demo.banks import facts, words
from workers.data.demo.verifiable.problem import Candidate, Problem, flawed

COUNT_WORDS = {2: "two", 3: "three", 4: "four"}
BULLET_PROMPTS = (
    "Tell me about {subject} in exactly {n} bullet points.",
    "Give me exactly {n} bullet points on {subject}, nothing else.",
    "{subject}: exactly {n} facts as a bulleted list, please.",
    "I need a slide on {subject} with exactly {n} bullets and no other text.",
)
CAPITALS_PROMPTS = (
    "Tell me one thing about {subject}. Write in CAPITAL LETTERS only.",
    "One fact on {subject}, all in capitals please.",
    "Answer in upper case only: what is interesting about {subject}?",
)
LIMIT_PROMPTS = (
    "Tell me something about {subject} in at most {n} words.",
    "Explain one thing about {subject}. Limit: {n} words.",
    "{subject} in {n} words or fewer?",
)
JSON_PROMPTS = (
    'Answer only in JSON with the keys "name", "age", "city" and "job": {text}',
    "Extract name, age, city and job from this as one JSON object, no other text: {text}",
    "{text}\n\nGive me this as JSON (keys: name, age, city, job). Only the JSON.",
)


def bullets(rng: Random) -> Problem:
    subject, n = rng.choice(sorted(facts())), rng.choice((2, 3, 4))
    known = rng.sample(facts()[subject], k=6)
    other = rng.choice([name for name in facts() if name != subject])
    mark = rng.choice(("-", "*", "•"))

    def listed(found: list[str]) -> str:
        return "\n".join(f"{mark} {fact}" for fact in found)

    right, n_off = listed(known[:n]), rng.choice([k for k in (1, n - 1, n + 1, n + 2) if 1 <= k <= 6 and k != n])
    return Problem(
        prompt=_capital(rng.choice(BULLET_PROMPTS).format(subject=subject, n=COUNT_WORDS[n])),
        truth=f"{n} bullet points",
        candidates=[
            Candidate(right, 5, ("correct", "formatted")),
            Candidate(listed(known[:n_off]), 2, ("ignores_instruction", "formatted"), "wrong_number_of_points"),
            Candidate(" ".join(known[: n + 1]), 2, ("ignores_instruction", "plain"), "no_list"),
            Candidate(listed(rng.sample(facts()[other], k=n)), 1, ("off_topic", "formatted"), "off_topic"),
            Candidate(listed([known[0]] * n), 2, ("repetitive", "formatted"), "repetition"),
            *flawed(right, rng=rng),
        ],
        topic="format",
        difficulty="easy",
    )


def capitals(rng: Random) -> Problem:
    subject = rng.choice(sorted(facts()))
    first, second, third = rng.sample(facts()[subject], k=3)
    other = rng.choice([name for name in facts() if name != subject])
    right = first.upper() if rng.random() < 0.5 else f"{first} {second}".upper()
    return Problem(
        prompt=_capital(rng.choice(CAPITALS_PROMPTS).format(subject=subject)),
        truth="upper case",
        candidates=[
            Candidate(right, 5, ("correct", "formatted")),
            Candidate(rng.choice((first, f"{second} {third}")), 2, ("ignores_instruction", "plain"), "not_capitals"),
            Candidate(f"{second.upper()} {third}", 3, ("partly_correct", "ignores_instruction"), "partly_capitals"),
            Candidate(rng.choice(facts()[other]).upper(), 1, ("off_topic", "formatted"), "off_topic"),
            *flawed(right, rng=rng),
        ],
        topic="format",
        difficulty="easy",
    )


def word_limit(rng: Random) -> Problem:
    subject = rng.choice(sorted(facts()))
    known = rng.sample(facts()[subject], k=5)
    n = len(known[0].split()) + rng.randint(0, 3)
    other = rng.choice([name for name in facts() if name != subject])
    return Problem(
        prompt=_capital(rng.choice(LIMIT_PROMPTS).format(subject=subject, n=n)),
        truth=f"at most {n} words",
        candidates=[
            Candidate(known[0], 5, ("correct", "terse")),
            Candidate(" ".join(known[1 : rng.randint(4, 5)]), 2, ("ignores_instruction", "padded"), "too_long"),
            Candidate(rng.choice(facts()[other]), 1, ("off_topic", "terse"), "off_topic"),
            *flawed(known[0], rng=rng),
        ],
        topic="format",
        difficulty="easy",
    )


def json_record(rng: Random) -> Problem:
    name, city, job, age = (*(rng.choice(words()[key]) for key in ("names", "cities", "jobs")), rng.randint(19, 71))
    text = rng.choice(
        (
            f"{name} is {age}, lives in {city} and works as a {job}.",
            f"The {job} {name}, {age}, has moved to {city}.",
            f"In {city} I met {name}, a {job} of {age}.",
        )
    )
    record: dict[str, object] = {"name": name, "age": age, "city": city, "job": job}
    shape = rng.choice((None, 2))
    right = json.dumps(record, indent=shape, ensure_ascii=False)
    left_out = rng.choice(("age", "city"))
    fewer = {key: value for key, value in record.items() if key != left_out}
    swapped = {**record, "city": job, "job": city}
    renamed = {"Person": name, "Years": age, "Place": city, "Profession": job}
    return Problem(
        prompt=rng.choice(JSON_PROMPTS).format(text=text),
        truth=json.dumps(record, ensure_ascii=False),
        candidates=[
            Candidate(right, 5, ("correct", "formatted")),
            Candidate(f"```json\n{right}\n```", 4, ("correct", "formatted"), "fenced"),
            Candidate(json.dumps(fewer, indent=shape), 2, ("ignores_instruction", "formatted"), "key_missing"),
            Candidate(json.dumps(swapped, indent=shape), 2, ("wrong", "formatted"), "values_swapped"),
            Candidate(json.dumps(renamed, indent=shape), 2, ("ignores_instruction", "formatted"), "keys_renamed"),
            Candidate(
                f"Name: {name}, age: {age}, city: {city}, job: {job}.", 2, ("ignores_instruction", "plain"), "no_json"
            ),
            Candidate(right.replace('"', "'"), 2, ("wrong", "formatted"), "invalid_json"),
            *flawed(right, rng=rng),
        ],
        topic="format",
        difficulty="medium",
    )


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
