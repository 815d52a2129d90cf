"""Public preference sets by name, over https from huggingface.co, for a site that is online."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, OpenerDirector, Request, build_opener

from annotator.errors import DomainError
from workers.data.rows import MIB, size_words

HUB = "https://huggingface.co/datasets"
#: Where the hub keeps its files and may redirect to.
HOSTS = ("huggingface.co", "hf.co")
TIMEOUT_S = 30


@dataclass(frozen=True, slots=True)
class PublicSet:
    """One published file: where it lies, what it is called here, how it is read, under which licence."""

    path: str
    title: str
    format: str
    licence: str

    @property
    def url(self) -> str:
        return f"{HUB}/{self.path}"


PUBLIC_SETS = {
    "hh-rlhf": PublicSet(
        "Anthropic/hh-rlhf/resolve/main/helpful-base/train.jsonl.gz", "HH-RLHF helpful-base (train)", "hh", "MIT"
    ),
    "hh-rlhf-test": PublicSet(
        "Anthropic/hh-rlhf/resolve/main/helpful-base/test.jsonl.gz", "HH-RLHF helpful-base (test)", "hh", "MIT"
    ),
    "hh-rlhf-harmless": PublicSet(
        "Anthropic/hh-rlhf/resolve/main/harmless-base/train.jsonl.gz", "HH-RLHF harmless-base (train)", "hh", "MIT"
    ),
    "helpsteer2": PublicSet(
        "nvidia/HelpSteer2/resolve/main/train.jsonl.gz", "HelpSteer2 (train)", "helpsteer", "CC BY 4.0"
    ),
    "helpsteer2-validation": PublicSet(
        "nvidia/HelpSteer2/resolve/main/validation.jsonl.gz", "HelpSteer2 (validation)", "helpsteer", "CC BY 4.0"
    ),
    "ultrafeedback": PublicSet(
        "trl-lib/ultrafeedback_binarized/resolve/main/data/train-00000-of-00001.parquet",
        "UltraFeedback binarized (train)",
        "auto",
        "MIT",
    ),
    "reward-bench-2": PublicSet(
        "allenai/reward-bench-2/resolve/main/data/test-00000-of-00001.parquet", "RewardBench 2", "pairs", "ODC-BY"
    ),
}


class FetchFailed(DomainError):
    status = 502
    code = "fetch_failed"
    title = "The file could not be fetched"


class HubOnly(HTTPRedirectHandler):
    """Follows redirects only to the hub's own hosts, and only over https."""

    def redirect_request(self, req: Request, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Request | None:
        require_hub(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def require_hub(url: str) -> None:
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme != "https" or not any(host == known or host.endswith(f".{known}") for known in HOSTS):
        raise FetchFailed(f"{url} is not an https address of huggingface.co, so it was not followed.")


def public_set_fetch(
    *,
    found: PublicSet,
    out: IO[bytes],
    max_bytes: int,
    on_bytes: Callable[[int], None] | None = None,
    opener: OpenerDirector | None = None,
) -> int:
    """Download one file whole, or raise FetchFailed saying why and what to do. Returns its size in bytes."""
    require_hub(found.url)
    wanted = Request(found.url, headers={"User-Agent": "steelyard"})  # noqa: S310 - https is checked above
    try:
        with (opener or build_opener(HubOnly)).open(wanted, timeout=TIMEOUT_S) as answer:
            expected = int(answer.headers.get("Content-Length") or -1)
            n_bytes = copy_bounded(answer, out, max_bytes, on_bytes)
    except HTTPError as error:
        raise FetchFailed(f"{found.url} answered {error.code} {error.reason}. It may have moved.") from error
    except (URLError, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", error)
        raise FetchFailed(
            f"{found.url} cannot be reached ({reason}). Is this machine online? Otherwise download the file elsewhere "
            "and import it with: manage.py dataset_import FILE"
        ) from error
    if expected not in (-1, n_bytes):
        raise FetchFailed(f"Only {n_bytes} of {expected} bytes of {found.url} arrived. Try again.")
    return n_bytes


def copy_bounded(source: Any, out: IO[bytes], max_bytes: int, on_bytes: Callable[[int], None] | None) -> int:
    n_bytes = 0
    while part := source.read(MIB):
        n_bytes += len(part)
        if n_bytes > max_bytes:
            raise FetchFailed(
                f"The file is larger than this site accepts, which is {size_words(max_bytes)} "
                "(STEELYARD_IMPORT_MAX_BYTES)."
            )
        out.write(part)
        if on_bytes:
            on_bytes(n_bytes)
    return n_bytes
