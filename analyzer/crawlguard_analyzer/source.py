"""One log, wherever it lies, as chunks of whole lines: a file of any compression, a pipe, or a URL."""

from __future__ import annotations

import io
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import BinaryIO, cast

from crawlguard.errors import DataError

from . import remote
from .looks import first_time, refuse
from .parsed import Reject
from .positions import HEAD, Position, Seen, head_of, rotation
from .streams import PEEK, Compression, Damage, Lines, ahead, compression_of, decompressed

CHUNK = 24 << 20
"""Bytes of a chunk: with 16 MiB a seventh more time goes into calls of polars, with 32 a hundred MiB more of memory into nothing else."""
SAMPLE = 1 << 16
"""Bytes from which a format is told."""
HEADERS = b"#Fields:"
"""What names the columns of the lines that follow it, in W3C logs."""

Progress = Callable[[int], None]
"""Is told how many bytes of ``Source.total`` have been read."""


class Source(ABC):
    """One log. ``name`` for people; ``found`` in a directory rather than named; ``total`` bytes to read as they lie on disk, None if unknown.

    ``header`` is the header line in force where reading begins (b"" for formats without), and, after reading, where it ended;
    ``problems`` what was wrong with it, in words; ``rejects`` lines that were too long for any format, ``rejected`` how many there were:
    they are in no chunk.
    """

    def __init__(self, name: str, *, found: bool = False, total: int | None = None, header: bytes = b"") -> None:
        self.name, self.found, self.total, self.header = name, found, total, header
        self.problems: list[str] = []
        self.claimed: str | None = None
        self._lines = Lines()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"

    @property
    def rejects(self) -> list[Reject]:
        return self._lines.too_long

    @property
    def rejected(self) -> int:
        return self._lines.too_many

    @abstractmethod
    def sample(self) -> bytes:
        """The first SAMPLE bytes of content, whole lines if there are any."""

    @abstractmethod
    def chunks(self, size: int = CHUNK, *, progress: Progress | None = None) -> Iterator[bytes]:
        """The new content, by chunks of about ``size`` bytes, each of whole lines; only the last may lack its line end. To be read once."""

    def position(self) -> tuple[str, Position] | None:
        """A key and how far was read, once all chunks were; None for what cannot be read again."""
        return None

    def _cut(self, blocks: Iterable[bytes], size: int, final: bool) -> Iterator[bytes]:
        for chunk in self._lines.cut(blocks, size):
            yield self._headed(chunk)
        if final and (rest := self._lines.finish()):
            yield rest

    def _headed(self, chunk: bytes) -> bytes:
        at = chunk.rfind(b"\n" + HEADERS) + 1 if self.header or chunk.startswith(b"#") else 0
        if at or chunk.startswith(HEADERS):
            self.header = chunk[at : chunk.find(b"\n", at) + 1]
        return chunk


class Stream(Source):
    """stdin, a pipe or a device: read to its end, and once."""

    def __init__(self, name: str, file: BinaryIO) -> None:
        super().__init__(name)
        self._raw = cast(io.BufferedReader, file if hasattr(file, "peek") else io.BufferedReader(cast(io.RawIOBase, file)))
        self._begun = b""
        self._blocks: Iterator[bytes] | None = None

    def sample(self) -> bytes:
        if self._blocks is None:
            how = compression_of(self._raw.peek(PEEK)[:PEEK])
            self._blocks = decompressed(self._raw, how, _teller(self)) if how else iter(lambda: self._raw.read1(1 << 20), b"")
            while len(self._begun) < SAMPLE and (block := next(self._blocks, b"")):
                self._begun += block
            refuse(self.name, self._begun)
        return _whole(self._begun[:SAMPLE])

    def chunks(self, size: int = CHUNK, *, progress: Progress | None = None) -> Iterator[bytes]:
        self.sample()
        blocks = chain([self._begun], cast(Iterator[bytes], self._blocks))
        self._begun = b""
        with self._raw:
            yield from self._cut(ahead(_counted(blocks, progress)), size, True)


class Remote(Source):
    """A URL that polars reads. Its position counts lines."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.skip = 0
        self._count = 0
        self._sample: bytes | None = None

    def sample(self) -> bytes:
        if self._sample is None:
            found = b""
            for block in remote.blocks(self.name, 0, 300):
                found += block
            refuse(self.name, found)
            self._sample = _whole(found[:SAMPLE])
        return self._sample

    def chunks(self, size: int = CHUNK, *, progress: Progress | None = None) -> Iterator[bytes]:
        yield from self._cut(ahead(_counted(self._counting(), progress)), size, True)

    def _counting(self) -> Iterator[bytes]:
        for block in remote.blocks(self.name, self.skip):
            self._count += block.count(b"\n")
            yield block

    def position(self) -> tuple[str, Position] | None:
        told: Position = {"offset": self.skip + self._count, "head": head_of(self.sample()), "header": self.header.decode("latin-1")}
        return self.name, told


class File(Source):
    """A file on disk. ``start``: the first HEAD bytes of its content; ``offset``: how much of it was read before."""

    def __init__(self, path: Path, *, found: bool = False, final: bool = True) -> None:
        super().__init__(str(path), found=found)
        self.path, self.offset, self.final = path, 0, final
        with self._open() as file:
            self.stat = os.fstat(file.fileno())
            self.how: Compression | None = compression_of(file.read(PEEK))
        self._start = self._first(SAMPLE)  # says what is wrong with a file of which nothing can be had
        self.start = self._start[:HEAD]
        self.total = self.stat.st_size

    def seen(self) -> Seen:
        return Seen(self.stat.st_dev, self.stat.st_ino, None if self.how else self.stat.st_size, self.start)

    def resume(self, name: str, at: Position) -> None:
        """Go on where an earlier run stopped."""
        self.claimed, self.offset, self.header = name, at["offset"], at.get("header", "").encode("latin-1")
        if self.how is None:
            self.total = self.stat.st_size - self.offset
        elif tuple(at.get("stamp", ())) == self._stamp():
            self.total = 0

    def sample(self) -> bytes:
        refuse(self.name, self._start)
        return _whole(self._start)

    def chunks(self, size: int = CHUNK, *, progress: Progress | None = None) -> Iterator[bytes]:
        if self.total == 0:
            self._lines.taken = 0
            return
        self.sample()
        done = self.how is not None or rotation(self.path.name) > 0
        with self._same() as file:
            chunks = self._compressed(file, self.how, size, progress) if self.how else self._plain(file, size, progress)
            yield from map(self._headed, chunks)
            # Compressed data that end too early may go on in the next run: their writer is still at work.
            if (self.final or (done and not self.problems)) and (rest := self._lines.finish()):
                yield rest

    def position(self) -> tuple[str, Position] | None:
        told: Position = {
            "device": self.stat.st_dev,
            "inode": self.stat.st_ino,
            "offset": self.offset + self._lines.taken,
            "head": head_of(self.start),
            "header": self.header.decode("latin-1"),
        }
        if self.how:
            told["stamp"] = self._stamp()
        return os.path.abspath(self.path), told

    def first_time(self) -> int | None:
        """Seconds since 1970 of the first line that tells, to put files in order: the zone is not looked at."""
        return first_time(self._start)

    def _open(self) -> BinaryIO:
        with told(self.path):
            return open(self.path, "rb")

    def _same(self) -> BinaryIO:
        """The file that ``stat`` is of, also when it has been rotated since and goes by another name."""
        for path in chain((self.path,), self.path.parent.iterdir()):
            with suppress(OSError):
                if os.path.samestat(path.stat(), self.stat):
                    file = path.open("rb")
                    if os.path.samestat(os.fstat(file.fileno()), self.stat):
                        return file
                    file.close()
        raise DataError(f"{self.path}: was taken away while logs were read, as by a rotation; run it again")

    def _stamp(self) -> tuple[int, int]:
        return self.stat.st_size, self.stat.st_mtime_ns

    def _first(self, size: int) -> bytes:
        with self._open() as file, told(self.path):
            if self.how is None:
                return file.read(min(size, self.stat.st_size))
            found, damages = b"", list[Damage]()
            for block in decompressed(file, self.how, damages.append):
                found += block
                if len(found) >= size:
                    break
            if not found:  # it has no chunk that would say so
                self.problems += [f"{self.name}: {damage.words}" for damage in damages]
            return found[:size]

    def _compressed(self, file: BinaryIO, how: Compression, size: int, progress: Progress | None) -> Iterator[bytes]:
        blocks = _skipped(decompressed(file, how, _teller(self)), self.offset)
        for chunk in self._lines.cut(ahead(blocks), size):
            if progress:
                progress(min(file.tell(), self.stat.st_size))
            yield chunk

    def _plain(self, file: BinaryIO, size: int, progress: Progress | None) -> Iterator[bytes]:
        """As ``Lines.cut``, but where lines are of usual length each byte is read and copied once."""
        at, stop = self.offset, self.stat.st_size  # what is written from now on is for the next run
        with told(self.path):
            while stop - at > size:
                file.seek(end := at + size - min(size, SAMPLE))
                cut = file.read(at + size - end).rfind(b"\n") + 1
                if not cut:
                    break
                file.seek(at)
                chunk = file.read(end + cut - at)
                self._lines.taken += len(chunk)
                at += len(chunk)
                if chunk := self._lines.without_long(chunk):
                    yield chunk
                if progress:
                    progress(at - self.offset)
            file.seek(at)
            yield from self._lines.cut(_counted(_pieces(file, stop - at), progress, at - self.offset), size)


@contextmanager
def told(path: Path) -> Iterator[None]:
    """Says what the system says about a file, with the cure, as a DataError."""
    try:
        yield
    except FileNotFoundError:
        raise DataError(
            f"{path}: no such file; check the name, or name a directory or a glob such as '/var/log/nginx/access.log*'"
        ) from None
    except PermissionError:
        raise DataError(
            f"{path}: not allowed to read it; on Debian logs are for the group adm: run as root, or `usermod -aG adm USER`"
        ) from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}); see whether its disk is well") from None


def _teller(source: Source) -> Callable[[Damage], None]:
    return lambda damage: source.problems.append(f"{source.name}: {damage.words}")


def _whole(data: bytes) -> bytes:
    return data[: data.rfind(b"\n") + 1] or data


def _pieces(file: BinaryIO, left: int) -> Iterator[bytes]:
    while left > 0 and (piece := file.read(min(left, 1 << 20))):
        left -= len(piece)
        yield piece


def _skipped(blocks: Iterator[bytes], skip: int) -> Iterator[bytes]:
    for block in blocks:
        if skip < len(block):
            yield block[skip:]
        skip = max(0, skip - len(block))


def _counted(blocks: Iterable[bytes], progress: Progress | None, done: int = 0) -> Iterator[bytes]:
    for block in blocks:
        done += len(block)
        if progress:
            progress(done)
        yield block
