"""Random bytes for ids and nonces, as unguessable as the system's, which gives them a page at a time.

To ask the system is to let go of the interpreter's lock. Where a store writes beside the event loop, to have it back
takes longer than all else about an id, and a job draws five times.
"""

import io
import os

PAGE = 4096


class _Pages:
    """What is left of the page in use. To read from it is one step, so that no two threads read the same."""

    def __init__(self) -> None:
        self._page = io.BytesIO()

    def draw(self, count: int) -> bytes:
        while len(drawn := self._page.read(count)) < count:
            self._page = io.BytesIO(os.urandom(PAGE))
        return drawn

    def forget(self) -> None:
        self._page = io.BytesIO()


_pages = _Pages()
os.register_at_fork(after_in_child=_pages.forget)  # or both would draw the same


def draw(count: int) -> bytes:
    """So many bytes (at most a page) that nobody else has been or will be given, in whatever thread."""
    return _pages.draw(count)
