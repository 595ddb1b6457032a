"""Files of fixed size that the workers of a host map together: made complete, owned by one boot, never half of anything.

A page of header comes first: what kind of table it is, how many slots, the seed of its keys, and the boot that made it.
"""

from __future__ import annotations

import mmap
import os
import stat
import struct
from os import urandom
from pathlib import Path
from typing import BinaryIO

from ..errors import DataError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

PAGE = 4096
"""Bytes of the header's page."""
_HEADER = struct.Struct("<8sQ32s36s")


def map_table(file: BinaryIO, path: Path, magic: bytes, length: int, slots: int) -> tuple[mmap.mmap, bytes]:
    """The mapped table, and the seed in its header. Raises DataError when it cannot be mapped, or is another table."""
    try:
        mapped = mmap.mmap(file.fileno(), length)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be mapped ({error}); remove the file") from None
    kind, found, seed, _ = _HEADER.unpack_from(mapped)
    if kind != magic or found != slots:
        mapped.close()
        raise DataError(f"{path}: not a rate table of {slots} slots; remove the file, or give another path")
    return mapped, seed


def open_table(path: Path, magic: bytes, length: int, slots: int, seed: bytes = b"") -> BinaryIO:
    """The file of a table, made first where there is none of this boot. ``magic``: 8 bytes, the last of which is a version.

    ``seed``: that of the table's keys, b"" to make one; a table with another seed is made anew. Raises OSError, or DataError when the file
    is not one of ours.
    """
    flags = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    flags |= getattr(os, "O_NONBLOCK", 0)  # a FIFO of that name must not stop the site
    for _ in range(3):
        try:
            file = os.fdopen(os.open(path, flags), "r+b")
        except FileNotFoundError:
            _create(path, magic, length, slots, seed)
            continue
        status = os.fstat(file.fileno())
        head = file.read(_HEADER.size) if stat.S_ISREG(status.st_mode) else b"not a file"
        if not magic[:7].startswith(head[:7]):  # a table of another version is ours too
            file.close()
            raise DataError(f"{path}: not a rate table, and not overwritten; give another path")
        if status.st_size == length and head.startswith(magic):
            _, _, found, boot = _HEADER.unpack(head)
            if boot == boot_id() and found == (seed or found):
                return file
        # Another size, cut short, or of another boot, whose clock was another: start again beside it. Workers that map the old
        # one keep it.
        _remove(path, file)
    raise DataError(f"{path}: other processes keep replacing it with a table of another size; give each site its own store path")


def _remove(path: Path, file: BinaryIO) -> None:
    """Take the name off an old table, unless another worker has done that already and given it to a new one."""
    with file:
        if fcntl is not None:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX)  # whoever removes this very file does it under this lock
        try:
            if os.path.samestat(os.stat(path), os.fstat(file.fileno())):
                path.unlink(missing_ok=True)
        except FileNotFoundError:
            pass


def _create(path: Path, magic: bytes, length: int, slots: int, seed: bytes) -> None:
    """Make the file complete under another name, then link it: nobody ever maps half a table."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    try:
        with open(os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), "r+b") as file:
            file.write(_HEADER.pack(magic, slots, seed or urandom(32), boot_id()))
            # Real blocks, not a hole: writing to a hole of a full disk kills the process (SIGBUS).
            file.write(bytes(PAGE - _HEADER.size))
            file.writelines(bytes(65_536) for _ in range((length - PAGE) // 65_536))
            file.write(bytes((length - PAGE) % 65_536))
        try:
            os.link(partial, path)
        except FileExistsError:
            pass  # another worker was first
        except OSError:  # a file system without hard links
            os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def let_go(*parts: memoryview | mmap.mmap) -> None:
    """Close a mapped table: all views of it, and then itself."""
    for part in parts:
        if isinstance(part, memoryview):
            part.release()
        else:
            part.close()


def boot_id() -> bytes:
    """What tells this boot of the machine from others, 36 bytes; zeros where the system does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_bytes().strip()[:36].ljust(36, b"\0")
    except OSError:
        return bytes(36)
