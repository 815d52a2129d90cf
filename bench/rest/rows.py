"""Files of the data pack as rows of the import formats (docs/formats.md), with what a family needs beside the texts."""

import gzip
import json
import math
import os
import re
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

from workers.data.split import split_by_prompt

DATA = Path(os.environ.get("SHARED_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
Row = dict[str, Any]
Rows = list[Row]

JUDGES = ("exaone_judge_32B", "gemma4_judge_12B", "gpt_judge_gpt4omini", "qwen_judge_14B", "qwen_judge_32B")
OVERALL, VERBOSITY = "overall", "verbosity"
ATTRIBUTES = [OVERALL, *JUDGES, VERBOSITY]
AXES = {
    "Comprehensiveness": "says more of what there is to see",
    "Specificity": "is more specific",
    "Hallucination": "makes less up",
    "First few line(s) as tldr": "has first lines that sum it up",
    "Human Like": "reads more as if a person wrote it",
}
ANSWER = re.compile(r"####\s*(-?[\d.,]+)")


def lines(file: str) -> Iterator[Row]:
    raw = (DATA / file).read_bytes()
    text = (gzip.decompress(raw) if file.endswith(".gz") else raw).decode()
    yield from map(json.loads, text.strip().split("\n"))


def split(rows: Rows, *, share: float, by: str = "split_key") -> tuple[Rows, Rows]:
    """Rows to train on and rows to test on, which share no prompt (or whatever else `by` names)."""
    train, test = split_by_prompt([str(row[by]) for row in rows], validation_share=share, seed=1)
    return [rows[i] for i in train], [rows[i] for i in test]


def said(text: str) -> list[Row]:
    return [{"role": "assistant", "content": text}]


def asked(text: str) -> list[Row]:
    return [{"role": "user", "content": text}]


def pair(prompt: str, chosen: str, rejected: str, **more: Any) -> Row:
    return {"prompt": asked(prompt), "chosen": said(chosen), "rejected": said(rejected), "split_key": prompt, **more}


def ultrafeedback() -> Rows:
    """745 pairs judged by GPT-4 (Cui et al. 2023, arXiv 2310.01377)."""
    found = lines("ultrafeedback-sample/pairs.part.jsonl.gz")
    return [
        pair(row["prompt"], row["chosen"], row["rejected"], source="ultrafeedback")
        for row in found
        if row["chosen"] != row["rejected"]
    ]


def toolrm() -> Rows:
    """500 short HH pairs with the human score, as Li et al. publish them (2024, arXiv 2310.01045)."""
    return [
        pair(row["question"], row["pos_answer"]["answer"], row["neg_answer"]["answer"], source="toolrm")
        for row in lines("toolrm/hh_rlhf.scored.jsonl.gz")
    ]


def hh() -> Rows:
    """HH-RLHF (Bai et al. 2022, arXiv 2204.05862): 1,414 harmless transcripts and 236 helpful single turns."""
    found = []
    for row in lines("hh-rlhf/harmless-base.test.part.jsonl.gz"):
        first = row["chosen"].split("\n\nAssistant:")[0]
        found.append({"chosen": row["chosen"], "rejected": row["rejected"], "source": "hh", "split_key": first})
    return found


def helpful() -> Rows:
    return [
        pair(row["i_chosen"], row["r_chosen"], row["r_reject"], source="helpful")
        for row in lines("hh-rlhf/helpful-base.single-turn.part.jsonl.gz")
    ]


def short_hh(most: int) -> Rows:
    """Single turns of HH, from both files, whose responses have at most so many bytes each."""
    found = [*toolrm(), *helpful()]
    if not most:
        return found
    return [
        row for row in found if max(len(row[side][0]["content"].encode()) for side in ("chosen", "rejected")) <= most
    ]


def rated() -> Rows:
    """UltraFeedback responses with their scores and MT-Bench first turns with five judges' grades, all from 1 to 10."""
    found = []
    for row in lines("ultrafeedback-sample/pairs.part.jsonl.gz"):
        if row["chosen"] == row["rejected"]:
            continue
        responses = [
            {"content": row[side], OVERALL: float(row["metadata"][f"score_{side}"]), VERBOSITY: verbosity(row[side])}
            for side in ("chosen", "rejected")
        ]
        found.append({"prompt": asked(row["prompt"]), "responses": responses, "split_key": row["prompt"]})
    return found + graded()


def graded() -> Rows:
    """English MT-Bench answers of six models (pnu-clink/korean-mt-bench); each judge is an attribute of its own."""
    folder = "korean-mt-bench/en"
    questions = {row["question_id"]: row["turns"][0] for row in lines(f"{folder}/questions.part.jsonl")}
    grades: dict[tuple[int, str], dict[str, float]] = {}
    for judge in JUDGES:
        for row in lines(f"{folder}/single_grade.{judge}.part.jsonl.gz"):
            if 1 <= row["score_turn1"] <= 10:
                grades.setdefault((row["question_id"], row["model_id"]), {})[judge] = float(row["score_turn1"])
    responses: dict[int, Rows] = {}
    for row in lines(f"{folder}/answers.part.jsonl.gz"):
        text = row["choices"][0]["turns"][0]
        told = grades.get((row["question_id"], row["model_id"]), {})
        if told and text.strip():
            responses.setdefault(row["question_id"], []).append(
                {"content": text, "model": row["model_id"], VERBOSITY: verbosity(text), **told}
            )
    return [
        {"prompt": asked(questions[key]), "responses": found, "split_key": questions[key]}
        for key, found in responses.items()
    ]


def ranked(least: float = 0.5) -> Rows:
    """Of each MT-Bench question the answer with the best mean grade as the reference, the others in pairs.

    Pairs whose mean grades differ by less than `least` are left out.
    """
    found = []
    for row in graded():
        grades = [(sum(told := [r[j] for j in JUDGES if j in r]) / len(told), r["content"]) for r in row["responses"]]
        ordered = sorted(grades, reverse=True)
        reference, others = ordered[0][1], ordered[1:]
        found += [
            pair(row["split_key"], better, worse, reference=reference)
            for (high, better), (low, worse) in combinations(others, 2)
            if high - low >= least
        ]
    return found


def overall_pairs(rows: Rows) -> Rows:
    """Of rated responses the UltraFeedback pairs: the one with the higher overall score first."""
    sides = [(row, *(response["content"] for response in row["responses"][:2])) for row in rows if is_pair(row)]
    return [pair(row["split_key"], chosen, rejected) for row, chosen, rejected in sides]


def is_pair(row: Row) -> bool:
    return OVERALL in row["responses"][0]


def verbosity(text: str) -> float:
    """No rater was asked, so length stands in: doublings of 100 characters."""
    return math.log2(max(1, len(text)) / 100)


def tulu() -> Rows:
    """Judgements of sixteen evaluators on answers of language models (Wang et al. 2023, arXiv 2306.04751)."""
    return [
        {
            "prompt": asked(row["prompt"]),
            "response_a": row["completion_a"],
            "response_b": row["completion_b"],
            "label": row["preference"],
            "rater": row["evaluator"],
            "split_key": row["prompt"],
        }
        for row in lines("tulu-human-eval/eval_annotations_tulu_1.part.jsonl.gz")
        if row["completion_a"] != row["completion_b"] and row["completion_a"].strip() and row["completion_b"].strip()
    ]


def with_context(rows: Rows, n: int = 8, most: int = 16) -> Rows:
    """Of every rater n decided pairs become the context that (at most `most` of) the rater's other ones bring along.

    A context pair is a prompt with the text that this rater chose and the one that was rejected.
    """
    by_rater: dict[str, Rows] = {}
    for row in rows:
        by_rater.setdefault(row["rater"], []).append(row)
    found = []
    for own in by_rater.values():
        decided = [row for row in own if row["label"][0] in "ab"]
        context = [context_pair(row) for row in decided[:n]]
        found += [{**row, "context": context} for row in decided[n : n + most]]
    return found


def context_pair(row: Row) -> Row:
    sides = [said(row["response_a"]), said(row["response_b"])]
    chosen, rejected = sides if row["label"][0] == "a" else sides[::-1]
    return {"prompt": row["prompt"], "chosen": chosen, "rejected": rejected}


def image_axes() -> Rows:
    """Descriptions by people and by a model, compared on five axes (Garg et al. 2024, arXiv 2405.02793), 100 images."""
    found = []
    for row in lines("imageinwords/IIW-400.jsonl.gz"):
        for name, label in (row.get("iiw-human-sxs-iiw-p5b") or {}).items():
            axis = name.removeprefix("metrics/")
            verdict = "tie" if label == "Neutral" else "a" if label.startswith("IIW-Human") else "b"
            found.append(
                {
                    "prompt": asked(f"Describe this image in detail. The better description {AXES[axis]}."),
                    "response_a": row["IIW"],
                    "response_b": row["IIW-P5B"],
                    "label": verdict,
                    "rater": axis,
                    "split_key": row["image/key"],
                }
            )
    return found


def prmbench() -> Rows:
    """Solutions and the same with injected errors (Song et al. 2025, arXiv 2501.03124), each question once."""
    kept: dict[str, Row] = {}
    for row in lines("prmbench/prm800k_test.modified.part.jsonl.gz"):
        if row["original_question"] == row["modified_question"] and row["error_steps"]:
            kept.setdefault(row["original_question"], {**row, "split_key": row["original_question"]})
    return list(kept.values())


def mr_gsm8k() -> Rows:
    """First wrong steps found by people (Zeng et al. 2023, arXiv 2312.17080), each solution once."""
    kept: dict[str, Row] = {}
    for name in ("Claude", "GPT3_5", "llama2_70b", "metamath_70B"):
        for row in lines(f"mr-gsm8k/{name}_eval_results.jsonl.gz"):
            kept.setdefault(row["uuid"], {**row, "split_key": row["question"]})
    return list(kept.values())


def references(last: int = 60) -> Rows:
    """The end of a right and of a wrong solution beside one reference: the right answer, or the wrong one's own.

    Whichever ends in the reference is correct, so that no text tells without the other; two rows a question.
    """
    found = []
    for row in mr_gsm8k():
        texts = [row["ground_truth_solution"], "\n".join(row["model_output_steps"])]
        answers = [(ANSWER.findall(text) or [""])[-1].rstrip(".,") for text in texts]
        if not all(answers) or answers[0] == answers[1]:
            continue
        for reference in answers:
            responses = [
                {"content": text[-last:], "score": float(answer == reference), "correct": float(answer == reference)}
                for text, answer in zip(texts, answers, strict=True)
            ]
            found.append(
                {
                    "prompt": asked(row["question"]),
                    "responses": responses,
                    "reference": reference,
                    "split_key": row["question"],
                }
            )
    return found
