"""The one text in which a policy discriminator reads a prompt, a reference and a response."""

from collections.abc import Sequence

from workers.data.schema import Message


def comparison_parts(
    prompt: Sequence[Message], reference: Sequence[Message], response: Sequence[Message], *, is_continued: bool
) -> tuple[str, str, str]:
    """Texts of prompt, reference and response. Turns are joined by newlines.

    Reference and response begin with the newline that parts them from the prompt, unless they go on where a prefix
    of a text ended (`is_continued`).
    """
    before, first, second = ("\n".join(m["content"] for m in part) for part in (prompt, reference, response))
    joint = "" if is_continued else "\n"
    return before, joint + first, joint + second


def comparison_text(
    prompt: Sequence[Message],
    reference: Sequence[Message],
    response: Sequence[Message],
    *,
    separator: str,
    reward_token: str,
    is_continued: bool = False,
) -> str:
    """Prompt and reference, the separator, the prompt once more and the response, the reward token."""
    before, first, second = comparison_parts(prompt, reference, response, is_continued=is_continued)
    return f"{before}{first}{separator}{before}{second}{reward_token}"
