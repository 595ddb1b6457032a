"""Bytes of any compression become chunks of whole lines, in bounded memory whatever comes: a bomb costs time, an endless line is cut.

Compressions are told by their first bytes, never by a name.
"""

from __future__ import annotations

import bz2
import lzma
import queue
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any, BinaryIO, NamedTuple, Protocol, cast

from isal import igzip_lib

from .parsed import Reject

BLOCK = 4 << 20
"""Bytes that a decompressor gives at once, at most."""
WINDOW = 1 << 27
"""Memory that a stream may ask a decompressor for: 128 MiB, what zstd (1) allows, and twice what xz -9 needs."""
LONGEST = 1 << 20
"""Bytes of a line. Servers cut request lines and headers at 8 to 64 KiB; what is longer is no log line."""
SHOWN, KEPT = 4096, 1000
"""What is kept of a longer one, and of how many."""
AHEAD = 3
"""Blocks that a thread decompresses ahead of the reader."""


class Decompressor(Protocol):
    """What bz2, lzma, isal and compression.zstd agree on."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


class Compression(NamedTuple):
    name: str
    magic: bytes
    make: Callable[[], Decompressor]
    read: int = 1 << 18
    """Compressed bytes to feed at once."""


class _Zstandard:
    """The same shape for the package zstandard, whose decompressor gives all at once: it has to be fed by little."""

    needs_input = True

    def __init__(self) -> None:
        import zstandard

        self._object: Any = zstandard.ZstdDecompressor(max_window_size=WINDOW).decompressobj()
        self._error = zstandard.ZstdError

    eof = property(lambda self: bool(self._object.eof))
    unused_data = property(lambda self: bytes(self._object.unused_data))

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        try:
            return bytes(self._object.decompress(data)) if data else b""
        except self._error as error:
            raise ValueError(str(error)) from None


def _zstd() -> Decompressor:
    if sys.version_info >= (3, 14):
        from compression import zstd

        return cast(Decompressor, zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: WINDOW.bit_length() - 1}))
    return _Zstandard()


COMPRESSIONS = (
    Compression("gzip", b"\x1f\x8b", lambda: cast(Decompressor, igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP))),
    Compression("zstd", b"\x28\xb5\x2f\xfd", _zstd, 2048),  # a block of 4 bytes stands for up to 128 KiB (RFC 8878, 3.1.1.2)
    Compression("bzip2", b"BZh", bz2.BZ2Decompressor),
    Compression("xz", b"\xfd7zXZ\x00", lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=WINDOW)),
)
PEEK = max(len(one.magic) for one in COMPRESSIONS)


_ISAL = cast(type[Exception], igzip_lib.IsalError)


def compression_of(start: bytes) -> Compression | None:
    """By the first PEEK bytes; None for what is not compressed."""
    return next((one for one in COMPRESSIONS if start.startswith(one.magic)), None)


class Damage(NamedTuple):
    """What was wrong with a compressed stream; what came before it was read."""

    words: str


def decompressed(file: BinaryIO, how: Compression, tell: Callable[[Damage], None]) -> Iterator[bytes]:
    """The content, by blocks; members and frames that follow each other are one. Damage ends it, and is told."""
    one, fed, begun = how.make(), b"", False
    while True:
        if one.eof:
            rest = one.unused_data.lstrip(b"\0")  # padding
            if not rest and not (rest := file.read(how.read).lstrip(b"\0")):
                return
            if not rest.startswith(how.magic[: len(rest)]):
                return tell(Damage(f"after the end of its {how.name} data something else follows, which was not read"))
            one, fed, begun = how.make(), rest, True
        elif one.needs_input:
            fed = file.read(how.read)
            if not fed:
                return tell(Damage(f"its {how.name} data end too early; what there was has been read")) if begun else None
        try:
            out = one.decompress(fed, BLOCK)
        except (OSError, ValueError, EOFError, lzma.LZMAError, _ISAL) as error:
            return tell(Damage(f"its {how.name} data are damaged ({error}); what came before has been read"))
        begun, fed = True, b""
        if out:
            yield out


def ahead(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """The same blocks, made in a thread beside the reader, a few ahead. Its errors are raised here; closing this ends the thread."""
    ready: queue.Queue[bytes | BaseException | None] = queue.Queue(AHEAD)
    stop = threading.Event()

    def hand(item: bytes | BaseException | None) -> None:
        while not stop.is_set():
            with suppress(queue.Full):
                ready.put(item, timeout=0.1)
                return

    def work() -> None:
        try:
            for block in blocks:
                hand(block)
                if stop.is_set():
                    return
            hand(None)
        except BaseException as error:  # raised where it is read
            hand(error)

    thread = threading.Thread(target=work, name="decompress", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()
        thread.join(timeout=1)  # one that waits for a pipe may go on waiting


class Lines:
    """Cuts blocks into chunks of about ``size`` bytes that end with a line; lines beyond ``longest`` are left out: ``too_many`` of them, and how the
    first ones begin. ``rest`` is what remains without a line end, once all is read.
    """

    def __init__(self, longest: int = LONGEST) -> None:
        self.longest = longest
        self.rest = b""
        self.too_long: list[Reject] = []
        self.too_many = 0
        self.taken = 0
        """Bytes up to the end of the last whole line."""
        self._skipping = False

    def cut(self, blocks: Iterable[bytes], size: int) -> Iterator[bytes]:
        """Chunks, each of whole lines and never empty."""
        held: list[bytes] = []
        height = 0
        for block in blocks:
            held.append(block)
            height += len(block)
            if height < size:
                continue
            whole, rest = self._split(b"".join(held))
            held, height = [rest], len(rest)
            if whole:
                yield whole
        whole, self.rest = self._split(b"".join(held))
        if whole:
            yield whole

    def finish(self) -> bytes:
        """The last line, which no line end follows; b"" when there is none."""
        rest, self.rest = self.rest, b""
        self.taken += len(rest)
        if self._skipping:
            self._skipping = False
            return b""
        return rest if len(rest) <= self.longest else self._note(rest)

    def _split(self, data: bytes) -> tuple[bytes, bytes]:
        if self._skipping:
            end = data.find(b"\n") + 1
            self.taken += end or len(data)
            if not end:
                return b"", b""
            data, self._skipping = data[end:], False
        end = data.rfind(b"\n") + 1
        whole, rest = data[:end], data[end:]
        self.taken += end
        if len(rest) > self.longest:
            self.taken += len(rest)
            rest, self._skipping = self._note(rest), True
        return self.without_long(whole), rest

    def without_long(self, chunk: bytes) -> bytes:
        """Whole lines less those that are too long. Looks at one place in each ``longest`` bytes."""
        kept, start, at = [], 0, 0
        while len(chunk) - at > self.longest + 1:
            end = chunk.rfind(b"\n", at, at + self.longest + 1) + 1
            if not end:
                end = chunk.index(b"\n", at) + 1
                kept.append(chunk[start:at])
                self._note(chunk[at : end - 1])
                start = end
            at = end
        return b"".join([*kept, chunk[start:]]) if start else chunk

    def _note(self, line: bytes) -> bytes:
        self.too_many += 1
        if self.too_many <= KEPT:
            self.too_long.append(Reject("too long", line[:SHOWN]))
        return b""
