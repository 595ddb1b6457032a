"""Odd lines are found wherever they stand, and what is left is plain."""

from __future__ import annotations

from crawlguard_analyzer.oddlines import MOST, emptied
from hypothesis import example, given, settings
from hypothesis import strategies as st

ODD = (b"\\", b"\0", b"\r", b"\xe9", b"\x80", b"\xff")
LINES = st.one_of(
    st.sampled_from((b"", b"plain", b'1.2.3.4 - - "x"', *ODD, b"a\\b\0c\xe9d", b"\x7f\t", b"x" * 1023 + b"\xe9", b"x" * 70_000, b"x" * 65_535 + b"\\")),
    st.binary(max_size=30).map(lambda data: data.replace(b"\n", b"")),
)  # fmt: skip


def blank(line: bytes) -> bytes:
    return b"" if any(byte in line for byte in ODD[:3]) or not line.isascii() else line


@settings(max_examples=200, deadline=None)
@given(st.lists(LINES, min_size=1, max_size=12), st.booleans())
@example([b"\\"], False)
@example([b"plain", b"\xe9"], False)
def test_odd_lines_become_empty_ones(lines: list[bytes], ended: bool) -> None:
    lines = [b"p" * (20 * MOST), *lines]
    ended = ended or not lines[-1]
    chunk, left = b"\n".join(lines) + b"\n" * ended, [blank(line) for line in lines]
    # A last line that became empty needs its end to be one.
    assert emptied(chunk) == b"\n".join(left) + b"\n" * (ended or left[-1] != lines[-1])


def test_many_odd_lines_stay() -> None:
    few, many = b"a\n" * MOST + b"\\\n" * 3, b"a\n" * MOST + b"\\\n" * 4
    assert emptied(few) == b"a\n" * MOST + b"\n" * 3
    assert emptied(many) is None
    assert emptied("é\n".encode() * 3) is None


def test_a_plain_chunk_is_not_copied() -> None:
    chunk = b"a\nb"
    assert emptied(chunk) is chunk
