"""Formats: what each makes of its rows, what it refuses, and what counts as the same."""

from __future__ import annotations

import io
import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.data.columns import PROMPT_NAMES
from workers.data.detection import detect
from workers.data.examples import ParsedExample, RowProblem, content_hash
from workers.data.formats import FORMATS
from workers.data.importing import open_examples
from workers.data.rows import FileError, Row, RowError
from workers.data.transcripts import transcript_messages, transcript_text

U, A = "user", "assistant"


def turns(*texts: str, start: str = U) -> list[dict[str, str]]:
    roles = [U, A] if start == U else [A, U]
    return [{"role": roles[place % 2], "content": text} for place, text in enumerate(texts)]


def parse(name: str, **columns: Any) -> ParsedExample:
    example: ParsedExample = FORMATS.get(name)().parse(Row(1, columns, 0))
    return example


def problem(name: str, **columns: Any) -> str:
    with pytest.raises(RowProblem) as raised:
        parse(name, **columns)
    assert len(raised.value.detail) > 10
    return raised.value.code


def verdicts(example: ParsedExample) -> list[tuple[int, int, str, int | None]]:
    return [(p.a_index, p.b_index, p.verdict, p.preference_strength) for p in example.preferences]


@pytest.mark.parametrize("name", FORMATS.names())
def test_every_format_documents_reads_and_detects_its_example(name: str) -> None:
    entry = FORMATS.get(name)
    shown = (entry.__doc__ or "").partition("\n\n    {")[2]
    assert json.loads("{" + shown) == entry.example
    assert detect([entry.example] * 3).format == name
    rows = [entry.example]
    if hasattr(entry, "joins"):
        rows.append(entry.example | {"response": "Some cannot."})
    stream = io.BytesIO("\n".join(json.dumps(row) for row in rows).encode())
    opened = open_examples(stream, name="x.jsonl")
    [example] = list(opened.examples)
    assert isinstance(example, ParsedExample)
    assert [turn["content"] for turn in example.prompt] == ["Can ducks fly?"]
    assert opened.detection.reason


# --- HH transcripts


def test_hh_splits_where_the_transcripts_part() -> None:
    chosen = "\n\nHuman: hi\n\nAssistant: hello\n\nHuman: and?\n\nAssistant: yes  \n\nHuman: more\n\nAssistant: end"
    example = parse(
        "hh", chosen=chosen, rejected="\n\nHuman: hi\n\nAssistant: hello\n\nHuman: and?\n\nAssistant: no", n=3
    )
    assert example.prompt == turns("hi", "hello", "and?")
    assert [response.messages for response in example.responses] == [
        turns("yes  ", "more", "end", start=A),
        turns("no", start=A),
    ]
    assert verdicts(example) == [(0, 1, "a", None)]
    assert example.meta == {"n": 3}


def test_hh_steps_back_when_one_transcript_is_the_start_of_the_other_or_the_person_differs() -> None:
    short = "\n\nHuman: q\n\nAssistant: a"
    example = parse("hh", chosen=short, rejected=short + "\n\nHuman: more\n\nAssistant: b")
    assert example.prompt == turns("q")
    assert [len(response.messages) for response in example.responses] == [1, 3]
    other = parse("hh", chosen=short + "\n\nHuman: x\n\nAssistant: c", rejected=short + "\n\nHuman: y\n\nAssistant: c")
    assert other.prompt == turns("q")


def test_hh_keeps_a_single_space_and_refuses_nothing_at_all() -> None:
    example = parse("hh", chosen="\n\nHuman: q\n\nAssistant: ", rejected="\n\nHuman: q\n\nAssistant: no")
    assert example.responses[0].messages == turns(" ", start=A)
    assert (
        problem("hh", chosen="\n\nHuman: q\n\nAssistant:", rejected="\n\nHuman: q\n\nAssistant: no") == "empty_response"
    )
    same = "\n\nHuman: q\n\nAssistant: a"
    assert problem("hh", chosen=same, rejected=same) == "identical_responses"
    assert problem("hh", chosen=same, rejected="\n\nHuman: other\n\nAssistant: a") == "no_shared_prompt"
    assert problem("hh", chosen=same, rejected="plain") == "not_a_transcript"


@given(
    st.lists(st.text(st.characters(exclude_characters="\n")).filter(lambda text: text and text[0] != " "), min_size=1)
)
def test_transcripts_come_back_as_they_were(texts: list[str]) -> None:
    messages = turns(*texts)
    assert transcript_messages(transcript_text(messages)) == messages  # type: ignore[arg-type]


# --- pairs


def test_pairs_of_texts() -> None:
    example = parse(
        "pairs", prompt="[1, 2] 👩‍👧", chosen='["a"]', rejected=" ", id=7.0, preference_strength=-3, margin=0.5
    )
    assert example.prompt == turns("[1, 2] 👩‍👧")
    assert [response.messages[0]["content"] for response in example.responses] == ['["a"]', " "]
    assert verdicts(example) == [(0, 1, "a", 3)]
    assert example.source_id == "7"
    assert example.meta == {"margin": 0.5}


def test_lists_of_texts_give_every_chosen_against_every_rejected() -> None:
    example = parse("pairs", prompt="p", chosen=["a", "b"], rejected=["c", "d", "e"])
    assert len(example.responses) == 5
    assert verdicts(example) == [(a, b, "a", None) for a in (0, 1) for b in (2, 3, 4)]
    assert [response.meta["index"] for response in example.responses] == [0, 1, 0, 1, 2]


def test_pairs_by_other_names() -> None:
    dove = parse("pairs", i_chosen="p", r_chosen="a", i_reject="p", r_reject="b")
    assert dove.prompt == turns("p")
    assert dove.meta == {}
    themis = parse(
        "pairs", question="p", pos_answer={"answer": "a", "score": 1.0}, neg_answer={"answer": "b", "score": -1}
    )
    assert [response.meta for response in themis.responses] == [{"score": 1.0}, {"score": -1}]
    alpaca = parse("pairs", instruction="Do", input="this", chosen="a", rejected="b", system="Be kind")
    assert [turn["content"] for turn in alpaca.prompt] == ["Be kind", "Do\n\nthis"]
    transcript = parse(
        "pairs", prompt="\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant:", chosen="d", rejected="e"
    )
    assert transcript.prompt == turns("a", "b", "c")


@pytest.mark.parametrize(
    ("columns", "code"),
    [
        ({"prompt": "p", "chosen": "a", "rejected": "a"}, "identical_responses"),
        ({"chosen": "a", "rejected": "b"}, "missing_prompt"),
        ({"prompt": "", "chosen": "a", "rejected": "b"}, "missing_prompt"),
        ({"prompt": "p", "chosen": "", "rejected": "b"}, "empty_response"),
        ({"prompt": "p", "chosen": None, "rejected": "b"}, "missing_response"),
        ({"prompt": "p", "chosen": ["a", ""], "rejected": ["b"]}, "empty_response"),
        ({"prompt": "p", "chosen": [], "rejected": ["b"]}, "missing_response"),
        ({"prompt": "p", "chosen": "a", "rejected": "b", "preference_strength": 9}, "bad_strength"),
        ({"prompt": "p", "chosen": "a", "rejected": "b", "margin": float("nan")}, "score_not_finite"),
        ({"prompt": "p", "chosen": "a", "rejected": "b", "margin": "wide"}, "score_not_a_number"),
        ({"i_chosen": "p", "r_chosen": "a", "i_reject": "q", "r_reject": "b"}, "prompts_differ"),
    ],
)
def test_pairs_that_are_refused(columns: dict[str, Any], code: str) -> None:
    assert problem("pairs", **columns) == code


# --- conversational lists


def test_messages_with_and_without_their_own_prompt() -> None:
    prompt = turns("s", "t", "u")
    own = parse("messages", prompt=prompt, chosen=turns("a", start=A), rejected=turns("b", start=A))
    whole = parse("messages", chosen=[*prompt, *turns("a", start=A)], rejected=[*prompt, *turns("b", start=A)])
    zephyr = parse("messages", prompt="u", chosen=turns("u", "a"), rejected=turns("u", "b"), score_chosen=8.0)
    assert own.prompt == whole.prompt == prompt
    assert [response.messages for response in own.responses] == [response.messages for response in whole.responses]
    assert zephyr.prompt == turns("u")
    assert zephyr.meta == {"score_chosen": 8.0}


def test_one_conversation_is_one_response() -> None:
    example = parse("messages", conversations=[{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}])
    assert example.prompt == turns("q")
    assert [response.messages for response in example.responses] == [turns("a", start=A)]
    assert problem("messages", messages=turns("q")) == "missing_response"


def test_messages_that_are_refused() -> None:
    bad = [{"role": "wizard", "content": "x"}]
    picture = [{"role": "assistant", "content": [{"type": "image"}, {"type": "text", "text": "x"}]}]
    good = turns("b", start=A)
    assert problem("messages", prompt="p", chosen=bad, rejected=good) == "unknown_role"
    assert problem("messages", prompt="p", chosen=picture, rejected=good) == "unsupported_content"
    assert problem("messages", prompt="p", chosen=good, rejected=good) == "identical_responses"
    assert problem("messages", chosen=good, rejected=turns("c", start=A)) == "missing_prompt"


# --- responses


def test_responses_scores_give_preferences_and_ties() -> None:
    example = parse(
        "responses",
        prompt="p",
        responses=[
            {"text": "a", "score": 1, "model": "m"},
            {"content": "b", "rating": 4.0},
            {"response": "c", "score": "4"},
            "d",
        ],
    )
    assert [response.messages[0]["content"] for response in example.responses] == list("abcd")
    assert example.responses[0].source_model == "m"
    assert verdicts(example) == [(0, 1, "b", None), (0, 2, "b", None), (1, 2, "tie", None)]
    ranked = parse("responses", prompt="p", completions=["a", "b"], ranks=[2, 1], models=["x", "y"])
    assert verdicts(ranked) == [(0, 1, "b", None)]
    assert [response.source_model for response in ranked.responses] == ["x", "y"]
    assert parse("responses", prompt="p", responses=["only"]).preferences == []


def test_many_scored_responses_are_compared_with_their_neighbours() -> None:
    example = parse("responses", prompt="p", responses=[{"text": str(n), "score": n % 50} for n in range(100)])
    assert len(example.preferences) == 99
    assert Counter(p.verdict for p in example.preferences) == {"tie": 50, "a": 49}


def test_responses_that_are_refused() -> None:
    assert problem("responses", prompt="p", responses=[]) == "missing_response"
    assert problem("responses", prompt="p", responses="text") == "missing_response"
    assert problem("responses", prompt="p", responses=["a", ""]) == "empty_response"
    assert problem("responses", prompt="p", responses=[{"text": "a", "score": "nan"}]) == "score_not_finite"
    assert problem("responses", prompt="p", responses=["a", "b"], scores=[1]) == "lengths_differ"
    same = [{"text": "a", "score": 1}, {"text": "a", "score": 2}]
    assert problem("responses", prompt="p", responses=same) == "identical_responses"


# --- judged pairs


@pytest.mark.parametrize(
    ("label", "verdict", "strength"),
    [
        ("A>B", "a", None),
        ("b>a", "b", None),
        ("A=B", "tie", None),
        ("[[A>>B]]", "", None),
        ("A>>B", "a", 3),
        ("model_b", "b", None),
        ("tie (bothbad)", "both_bad", None),
        ("a-is-slightly-better", "a", 1),
        ("1", "", None),
        (0, "", None),
        ("maybe", "", None),
    ],
)
def test_labels(label: Any, verdict: str, strength: int | None) -> None:
    columns = {"question": "p", "response_A": "a", "response_B": "b", "label": label}
    if verdict:
        assert verdicts(parse("judged_pairs", **columns)) == [(0, 1, verdict, strength)]
    else:
        assert problem("judged_pairs", **columns) == "unknown_label"


def test_judged_pairs_as_others_write_them() -> None:
    helpsteer3 = parse("judged_pairs", context=turns("q"), response1="a", response2="b", overall_preference=-2)
    assert verdicts(helpsteer3) == [(0, 1, "a", 2)]
    assert verdicts(parse("judged_pairs", prompt="q", response1="a", response2="b", overall_preference=0)) == [
        (0, 1, "tie", None)
    ]
    assert problem("judged_pairs", prompt="q", response1="a", response2="b", overall_preference=-7) == "unknown_label"
    llmbar = parse("judged_pairs", input="q", output_1="a", output_2="b", label=2)
    assert verdicts(llmbar) == [(0, 1, "b", None)]
    arena = parse(
        "judged_pairs",
        conversation_a=turns("q", "a"),
        conversation_b=turns("q", "b"),
        winner="model_a",
        model_a="m1",
        model_b="m2",
    )
    assert arena.prompt == turns("q")
    assert [response.source_model for response in arena.responses] == ["m1", "m2"]
    kaggle = parse(
        "judged_pairs", prompt="q", response_a="a", response_b="b", winner_model_a=0, winner_model_b=1, winner_tie=0
    )
    assert verdicts(kaggle) == [(0, 1, "b", None)]
    assert parse("judged_pairs", prompt="q", response_a="a", response_b="b").preferences == []
    assert verdicts(parse("judged_pairs", prompt="q", response_a="a", response_b="a", label="tie")) == [
        (0, 1, "tie", None)
    ]
    assert problem("judged_pairs", prompt="q", response_a="a", response_b="a", label="a") == "identical_responses"


def test_detection_says_what_it_saw() -> None:
    with pytest.raises(FileError) as raised:
        detect([{"name": "x", "age": 3}])
    assert "name, age" in raised.value.detail
    assert all(name in raised.value.detail for name in FORMATS.names())
    with pytest.raises(FileError, match="None of the first rows could be read"):
        list(open_examples(io.BytesIO(b"{bad\n{worse\n"), name="x").examples)
    with pytest.raises(FileError, match=r"read as CSV with semicolons\. Its columns foo, bar, baz fit no known format"):
        open_examples(io.BytesIO(b"foo;bar;baz\n1;2;3\n"), name="x.csv")
    named = open_examples(io.BytesIO(b'{"a": 1}'), name="x", format_name="pairs")
    assert [item.code for item in named.examples if isinstance(item, RowError)] == ["missing_response"]


def test_two_raters_who_agree_are_no_duplicates() -> None:
    row = {"prompt": "q", "response_a": "x", "response_b": "y", "label": "a"}
    rows = [row, {**row, "evaluator": "ann"}, {**row, "evaluator": "bob"}, {**row, "evaluator": "ann", "seconds": 4}]
    alone, ann, bob, again = (content_hash(parse("judged_pairs", **each)) for each in rows)
    assert len({alone, ann, bob}) == 3
    assert again == ann
    # Numbers of a column with gaps come as floats, and a column may be there without a value.
    numbers = [{**row, "rater_id": number} for number in (1.0, 2.0)] + [{**row, "rater": None, "worker_id": 3}]
    assert len({alone, *(content_hash(parse("judged_pairs", **each)) for each in numbers)}) == 4
    unjudged = {"prompt": "q", "response_a": "x", "response_b": "y"}
    assert content_hash(parse("judged_pairs", **unjudged)) == content_hash(
        parse("judged_pairs", **unjudged, rater="ann")
    )


def test_hash_counts_what_is_said_not_how_it_is_written() -> None:
    def judged(a: str, b: str, label: str, **more: Any) -> bytes:
        return content_hash(parse("judged_pairs", prompt="p", response_a=a, response_b=b, label=label, **more))

    base = judged("x", "y", "a")
    assert len(base) == 16
    assert base == judged("y", "x", "b") == judged("x", "y", "a", id=3, source="z", model_a="m", model_b="n")
    assert base == content_hash(parse("pairs", prompt="p", chosen="x", rejected="y"))
    assert len({base, judged("x", "y", "b"), judged("x", "y", "tie"), judged("x", "y ", "a")}) == 4


NAMES = [*PROMPT_NAMES, "chosen", "rejected", "responses", "response_a", "response_b", "label", "messages", "response"]
NAMES += ["helpfulness", "scores", "models", "preference_strength", "margin", "conversation_a", "conversation_b", "id"]
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(["", "a", "user", "[1]", '[{"role": "user"}]'])
)
KEYS = st.sampled_from(["role", "content", "text", "score", "rank", "model", "from", "value"])
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=6
)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from(NAMES), VALUES))
def test_no_row_makes_a_format_fail_otherwise(data: dict[str, Any]) -> None:
    for name, entry in FORMATS.items():
        assert 0 <= entry().matches([data]) <= 1, name
        try:
            example = entry().parse(Row(1, dict(data), 0))
        except RowProblem:
            continue
        assert example.prompt
        assert example.responses
        assert len(content_hash(example)) == 16
        assert all(max(p.a_index, p.b_index) < len(example.responses) for p in example.preferences)
