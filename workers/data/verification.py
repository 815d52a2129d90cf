"""What a verifier reads: question, reference answer and completion as one text."""

from __future__ import annotations

from collections.abc import Sequence

from workers.data.rendering import prompt_text, response_text
from workers.data.schema import Message
from workers.errors import JobError

SHOWN = 60


def verification_text(question: str, reference_answer: str, completion: str) -> str:
    """The one text of question, reference answer and completion, in training, scoring and everywhere else.

    Raises
    ------
    JobError
        The reference answer is empty.
    """
    return "".join(verification_parts(question, reference_answer, completion))


def verification_parts(question: str, reference_answer: str, completion: str) -> tuple[str, str]:
    """verification_text in two: up to the completion, and the completion with its closing tag.

    A text too long for a context loses the start of the first part.
    """
    if not reference_answer.strip():
        raise JobError(
            f'reference_answer is empty for the question "{question[:SHOWN]}"; '
            "reference_verifier needs one (use an ordinary RM instead).",
            "Give each example a column reference_answer (or reference), or choose another reward model.",
        )
    before = f"<question>{question}</question>\n<reference_answer>{reference_answer}</reference_answer>\n<completion>"
    return before, f"{completion}</completion>"


def verification_fields(
    prompt: Sequence[Message], response: Sequence[Message], reference: Sequence[Message] | None
) -> tuple[str, str, str]:
    """Question, reference answer and completion of an item; the reference is empty where there is none."""
    answer = "\n\n".join(message["content"] for message in reference or ())
    return prompt_text(prompt), answer, response_text(response)
