"""Folders as tar archives, made while they are sent: nothing is held in memory or written to disk."""

import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

CHUNK = 2**18


@dataclass(frozen=True)
class Member:
    """One file of an archive: its name in there, and its bytes or where they are."""

    name: str
    content: bytes | Path


def tar_chunks(folder: str, members: Sequence[Member]) -> Iterator[bytes]:
    """The bytes of a tar archive with every member below `folder`. The same files give the same bytes."""
    for member in members:
        info = tarfile.TarInfo(f"{folder}/{member.name}")
        info.size = len(member.content) if isinstance(member.content, bytes) else member.content.stat().st_size
        info.mode = 0o644
        yield info.tobuf(tarfile.PAX_FORMAT)
        yield from content_of(member.content, info.size)
        yield b"\0" * (-info.size % tarfile.BLOCKSIZE)
    yield b"\0" * (2 * tarfile.BLOCKSIZE)


def content_of(content: bytes | Path, size: int) -> Iterator[bytes]:
    """Exactly `size` bytes: the header has promised them."""
    if isinstance(content, bytes):
        yield content
        return
    left = size
    with content.open("rb") as opened:
        while left:
            chunk = opened.read(min(CHUNK, left))
            if not chunk:
                raise OSError(f"{content} became shorter while it was read")
            left -= len(chunk)
            yield chunk
