"""The child of workers.parallel: reads lists of items as JSON lines, writes rewards as JSON lines.

python -m workers.scoring_process '{"family": "scalar_head", "config": {}, "path": "/a/checkpoint", "threads": 1}'
"""

import json
import os
import sys
from pathlib import Path
from typing import Any, BinaryIO

from workers.environment import keep_freed_memory
from workers.errors import JobError
from workers.families.base import Scorer
from workers.opening import Setting, open_here


def main(about: dict[str, Any], requests: BinaryIO, answers: BinaryIO) -> None:
    def answer(**told: Any) -> None:
        answers.write(json.dumps(told).encode() + b"\n")
        answers.flush()

    try:
        scorer = _open(about)
        for line in requests:
            asked = json.loads(line)
            if asked.get("token_budget") and hasattr(scorer, "token_budget"):
                scorer.token_budget = asked["token_budget"]
            scores = scorer.score(asked["items"], on_batch=lambda n: answer(done=n) if n else None)
            answer(
                values=scores.values.tolist(),
                n_tokens=scores.n_tokens.tolist(),
                n_truncated=scores.n_truncated,
                n_response_cut=scores.n_response_cut,
                parts=scores.parts,
            )
    except JobError as error:
        answer(error=error.message, hint=error.hint)


def _open(about: dict[str, Any]) -> Scorer:
    keep_freed_memory()
    return open_here(about["family"], about["config"], Path(about["path"]), Setting(threads=about.get("threads", 1)))


def _own_stdout() -> BinaryIO:
    """Standard output for answers alone: what a library prints goes to standard error."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return answers


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), sys.stdin.buffer, _own_stdout())
