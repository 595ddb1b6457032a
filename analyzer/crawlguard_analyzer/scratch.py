"""Room on disk for what does not fit into memory: a file that has no name, so that whatever ends the process leaves nothing behind."""

from __future__ import annotations

import os
import tempfile
from threading import Lock
from typing import Final, NamedTuple

from crawlguard.errors import DataError

LASTING: Final = "/var/tmp"  # noqa: S108  nothing there gets a name
"""Where large files belong that no other program is to see (FHS 3.0, 5.15): ``/tmp`` is memory on many systems."""


class Place(NamedTuple):
    """Where something lies in a scratch file, in bytes."""

    start: int
    size: int


class Scratch:
    """A file that only grows, and is gone with this object. Raises DataError when there is no room."""

    def __init__(self) -> None:
        self._directory = directory()
        self._end, self._turn = 0, Lock()
        try:
            self._file = tempfile.TemporaryFile(buffering=0, dir=self._directory, prefix="crawlguard-")  # noqa: SIM115  as long as this object
        except OSError as error:
            raise self._told(error) from None

    def add(self, data: bytes) -> Place:
        """Keep some bytes."""
        with self._turn:
            place = Place(self._end, len(data))
            try:
                self._file.seek(place.start)
                rest = memoryview(data)
                while rest:  # a disk that is nearly full takes a part
                    rest = rest[self._file.write(rest) :]
            except OSError as error:
                raise self._told(error) from None
            self._end += place.size
        return place

    def read(self, place: Place) -> bytes:
        """What was kept there."""
        with self._turn:
            try:
                self._file.seek(place.start)
                return self._file.read(place.size)
            except OSError as error:
                raise self._told(error) from None

    def _told(self, error: OSError) -> DataError:
        return DataError(
            f"{self._directory}: what is counted does not fit into memory and cannot be kept there ({error.strerror or error}); "
            "free some space, or name a directory with more in the environment as TMPDIR"
        )

    def __del__(self) -> None:
        if file := getattr(self, "_file", None):
            file.close()


def directory() -> str:
    """TMPDIR if the environment names it, else LASTING, else what the system has."""
    named = os.environ.get("TMPDIR")
    return named or (LASTING if os.access(LASTING, os.W_OK | os.X_OK) else tempfile.gettempdir())
