"""Open questions with known facts, and short translations; responses wander off, repeat themselves or refuse."""

from __future__ import annotations

from random import Random

from workers.data.demo.banks import facts, words
from workers.data.demo.verifiable.problem import Candidate, Problem, flawed

FACT_PROMPTS = (
    "What should I know about {subject}?",
    "Tell me a few interesting things about {subject}.",
    "My daughter gives a talk on {subject}. What could she say?",
    "Teach me something about {subject}, in a couple of sentences.",
    "I'm curious about {subject}. Any facts?",
    "Write a short paragraph about {subject} for our club magazine.",
)
LANGUAGES = {"de": "German", "fr": "French", "es": "Spanish"}
TRANSLATION_PROMPTS = (
    'How do you say "{phrase}" in {language}?',
    'Translate into {language}: "{phrase}"',
    'What is "{phrase}" in {language}, please?',
    'I need "{phrase}" for a sign in {language}.',
)


def explaining(rng: Random) -> Problem:
    subject, other = rng.sample(sorted(facts()), k=2)
    known = rng.sample(facts()[subject], k=rng.choice((2, 3, 4)))
    right = " ".join(known)
    return Problem(
        prompt=rng.choice(FACT_PROMPTS).format(subject=subject),
        truth=f"facts about {subject}",
        candidates=[
            Candidate(right, 5, ("correct",)),
            Candidate(known[0], 4, ("correct", "terse")),
            Candidate(" ".join(rng.sample(facts()[other], k=rng.choice((2, 3, 4)))), 1, ("off_topic",), "off_topic"),
            Candidate(" ".join([known[0]] * rng.choice((3, 4, 5))), 2, ("repetitive",), "repetition"),
            Candidate(f"{known[0]} {' '.join(rng.sample(facts()[other], k=2))}", 2, ("off_topic",), "drifts_off"),
            *flawed(right, rng=rng),
        ],
        topic="explaining",
        difficulty="easy",
    )


def translating(rng: Random) -> Problem:
    phrase, unlike = rng.sample(words()["phrases"], k=2)
    code, other_code = rng.sample(sorted(LANGUAGES), k=2)
    language, right = LANGUAGES[code], phrase[code]
    frame = rng.choice(("{}", '"{}"', "In " + language + ' it is "{}".', 'You say "{}".', "**{}**"))
    full = frame.format(right)
    return Problem(
        prompt=rng.choice(TRANSLATION_PROMPTS).format(phrase=phrase["en"], language=language),
        truth=right,
        candidates=[
            Candidate(full, 5, ("correct", "terse")),
            Candidate(frame.format(phrase[other_code]), 2, ("wrong_language",), "wrong_language"),
            Candidate(frame.format(unlike[code]), 1, ("wrong",), "wrong_meaning"),
            Candidate(frame.format(phrase["en"]), 1, ("wrong",), "not_translated"),
            *flawed(full, rng=rng),
        ],
        topic="translation",
        difficulty="easy",
    )
