"""The generated tasks say the truth: each truth is worked out again here, from the prompt alone."""

import json
import re
from collections.abc import Callable
from datetime import date, datetime, timedelta

import pytest

from workers.data.demo import Row, verifiable_examples
from workers.data.demo.verifiable.dates import DAYS

ROWS = [row for seed in (0, 1) for row in verifiable_examples(seed)]


def of(task: str) -> list[Row]:
    return [row for row in ROWS if row["task"] == task]


def numbers(text: str) -> list[int]:
    return [int(found) for found in re.findall(r"\d+", text)]


def shopping(prompt: str) -> str:
    if prompt.startswith(("How much change does", "€")):
        note, a, p, b, q = numbers(prompt)
    else:
        a, p, b, q, note = numbers(prompt)
    return f"€{note - a * p - b * q}"


def product(prompt: str) -> str:
    a, b = numbers(prompt)
    return f"{a * b:,}"


def average(prompt: str) -> str:
    found = numbers(prompt)
    return f"{sum(found) / len(found):g}"


def dates(prompt: str) -> str:
    written = re.search(r"\d+ [A-Z][a-z]+ \d{4}", prompt)
    assert written
    start: date = datetime.strptime(written[0], "%d %B %Y").date()
    n = numbers(prompt.replace(written[0], ""))[0]
    end = start + timedelta(days=n)
    asks_weekday = any(day in prompt for day in DAYS)
    return DAYS[end.weekday()] if asks_weekday else f"{end.day} {end:%B %Y}"


def snippets(prompt: str) -> str:
    code = prompt.split("```python\n")[1].removesuffix("\n```")
    printed: list[str] = []
    exec(code, {"print": lambda *values: printed.append(" ".join(map(str, values)))})
    return "\n".join(printed)


def ordering(prompt: str) -> str:
    items = re.split(r"[:?] ", prompt, maxsplit=1)[1].split(", ")
    key: Callable[[str], int | str] = int if items[0].isdigit() else str
    return ", ".join(sorted(items, key=key))


SOLVERS = {
    "shopping": shopping,
    "product": product,
    "average": average,
    "dates": dates,
    "code_output": snippets,
    "ordering": ordering,
}


@pytest.mark.parametrize("task", sorted(SOLVERS))
def test_truth_follows_from_the_prompt(task: str) -> None:
    for row in of(task):
        assert row["truth"] == SOLVERS[task](row["prompt"]), row["prompt"]


@pytest.mark.parametrize("task", [*sorted(SOLVERS), "units", "counting", "logic"])
def test_right_responses_hold_the_truth_and_wrong_ones_do_not_end_in_it(task: str) -> None:
    for row in of(task):
        truth = row["truth"]
        for response in row["responses"]:
            text = response["content"].replace("\n", ", ") if task == "ordering" else response["content"]
            text = re.sub(r"\d+\. (?=[a-z\d])", "", text) if task == "ordering" else text
            last = re.sub(r"[*`.\s]+$", "", text)
            if "correct" in response["tags"]:
                assert truth in text, (row["id"], text)
            if "wrong" in response["tags"]:
                assert not re.search(rf"(?<![\w,.−-]){re.escape(truth)}$", last), (row["id"], text)


def test_every_wrong_sum_names_its_error() -> None:
    for row in ROWS:
        for response in row["responses"]:
            assert bool(response["error"]) == (response["score"] < 4 or response["error"] == "fenced"), row["id"]


def test_logic_truth_survives_every_comparison() -> None:
    for row in of("logic"):
        links = re.findall(
            r"([A-Z][a-z]+) (?:is \w+ than|arrived before|runs faster than|has more books than) (\w+)\.", row["prompt"]
        )
        highs, lows = {high for high, _ in links}, {low for _, low in links}
        first = row["truth"] in highs - lows
        assert first or row["truth"] in lows - highs
        assert first == bool(re.search(r"tallest|oldest|first|fastest|most", row["prompt"].rsplit(". ", 1)[1]))


def test_counting_letters() -> None:
    for row in of("counting"):
        found = re.search(r'letter "(\w)" (?:occur in "(.+)"|in: (.+))|Number of "(\w)"s in "(.+)"', row["prompt"])
        if found:
            letter, text = found[1] or found[4], found[2] or found[3] or found[5]
            assert row["truth"] == str(text.count(letter))


def test_best_formatted_responses_keep_to_the_format() -> None:
    for row in ROWS:
        best = max(row["responses"], key=lambda response: response["score"])
        if best["score"] < 5:
            continue
        if row["task"] == "bullets":
            assert len(best["content"].splitlines()) == int(row["truth"][0])
        if row["task"] == "capitals":
            assert best["content"] == best["content"].upper()
        if row["task"] == "word_limit":
            assert len(best["content"].split()) <= numbers(row["truth"])[0]
        if row["task"] == "json_record":
            assert json.loads(best["content"]) == json.loads(row["truth"])


def test_flawed_formats_are_flawed() -> None:
    for row in ROWS:
        for response in row["responses"]:
            if response["error"] == "wrong_number_of_points":
                assert len(response["content"].splitlines()) != int(row["truth"][0])
            if response["error"] == "too_long":
                assert len(response["content"].split()) > numbers(row["truth"])[0], row["id"]
            if response["error"] in ("invalid_json", "no_json"):
                with pytest.raises(json.JSONDecodeError):
                    json.loads(response["content"])
            if response["error"] == "key_missing":
                assert len(json.loads(response["content"])) == 3
