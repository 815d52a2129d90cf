"""What the commands that print much share."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def until_reader_leaves(stream: Any) -> Iterator[None]:
    """Print within; ends quietly where the reader of the stream has had enough, as `head` soon has.

    stream: standard output, or Django's wrapper of it.
    """
    try:
        yield
        stream.flush()
    except BrokenPipeError:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), stream.fileno())  # Python writes the rest when it ends
