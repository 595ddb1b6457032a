"""Combined logs: the fast columns and the exact line parser say the same of every line, and no line is lost."""

from __future__ import annotations

import gzip
from typing import Any

import polars as pl
import pytest
from crawlguard_analyzer.combined import Combined
from crawlguard_analyzer.combined_exact import BOM, VARIANTS, Line, epoch, line_parser
from crawlguard_analyzer.parsed import REASONS, Parsed, Reject, reason_of
from crawlguard_analyzer.rows import ROWS
from hypothesis import example, given, settings
from hypothesis import strategies as st

from .conftest import SHARED

IPS = (
    b"203.0.113.7",
    b"2001:db8::1",
    b"crawl-1.example.com",
    b"k-0f3a",
    b"",
    b"\0\0198.51.100.2",
    b"1.2.\x003.4",
    "bücher.example".encode(),
)
USERS = (
    b"- -",
    b"- alice",
    b"- Alice B.",
    b"- [a] (b)",
    b"id -",
    b"-",
    b"",
    b'- ""',
    b"- \xe9",
    b"- - [01/Jan/2026:00:00:00 +0000]",
    b"- \\xC3\\xA9",
)
TIMES = (
    b"23/Sep/2026:16:13:20 +0200", b"23/Sep/2026:16:13:20 +0200", b"28/Mar/2027:02:59:59 +0100", b"28/Mar/2027:03:00:00 +0200",
    b"31/Dec/2016:23:59:60 +0000", b"01/Jan/1970:00:00:00 -0330", b"29/Feb/2024:00:00:00 +1345", b"29/Feb/2026:00:00:00 +0000",
    b"01/Xxx/2026:00:00:00 +0000", b"01/jan/2026:00:00:00 +0000", b"1/Jan/2026:00:00:00 +0000", b"01/Jan/2026:24:00:00 +0000",
    b"32/Jan/2026:00:00:00 +0000", b"00/Jan/2026:00:00:00 +0000", b"01/Jan/2026:00:00:00 +1500", b"01/Jan/0001:00:00:00 +1400", b"",
    b"01/Jan/2026:00:00:00 +2400", b"01/Jan/2026:00:00:00 +0060", b"01/Jan/0000:00:00:00 +0000", b"01/Jan/2026:1 :00:00 +0000",
)  # fmt: skip
REQUESTS = (
    b"GET / HTTP/1.1", b"GET /a?b=c HTTP/2.0", b"HEAD /a/b.css HTTP/1.0", b"PROPFIND / HTTP/1.1", b"get / HTTP/1.1", b"GET /", b"GET", b"", b"-",
    b"GET /a b HTTP/1.1", b"GET  HTTP/1.1", b"GET / HTTP/1.1 ", b" GET / HTTP/1.1", b"OPTIONS sip:nm SIP/2.0", b"GET / HTTP/1 1", b"GET / HTTP/11",
    rb"\x16\x03\x01\x02", b"\x16\x03\x01\x02", b"\xe9 / HTTP/1.1", rb"GET /\xC3\xA9\x22 HTTP/1.1", rb"GET /\" HTTP/1.1", rb"GET /\\ HTTP/1.1",
    b"GET /\xc3\xa9 HTTP/1.1", b"GET /\xe9 HTTP/1.1", b"GET /\0 HTTP/1.1", b"G\xc3\xa9T / HTTP/1.1", b"GET / HTTP/3.0", b"MGLNDD_1.2.3.4_80",
    b"t3 12.1.2", b"GET /\x1b[31m HTTP/1.1", b"GET \xef\xbf\xbd HTTP/1.1", b"GET /\r HTTP/1.1", b"PRI * HTTP/2.0", rb"\n", b'GET /" HTTP/1.1',
    b"GET /" + b"a" * 65_536 + b" HTTP/1.1",
)  # fmt: skip
STATUSES = (b"200", b"200", b"404", b"000", b"-", b"20", b"2000", b"+20", b" 20", b"2 0", b"")
SIZES = (b"0", b"123", b"-", b"007", b"+5", b"-5", b"", b"9" * 18, b"9" * 19, b"1.5", b"12 ", b"  1")
FIELDS = (
    b"-", b"-", b"", b"https://example.org/", b"Mozilla/5.0 (X11; Linux x86_64)", rb"a \x22quoted\x22 \x5C b", rb"a \"quoted\" \\", b"\\", b"\\\\",
    b"latin \xe9", "früh 日本".encode(), "\ufffd".encode(), b"\0", b"a\tb", b'a"b', b'" "', b"--", b" -", b"- ", rb"\q \x4", b"\xed\xa0\x80", b"\xf0\x90\x80", b"\r",
)  # fmt: skip
TAILS = (
    b"",
    b"",
    b"",
    b' "-"',
    b' "10.0.0.1, 10.0.0.2" "0.002"',
    b" 0.123 0.120",
    b'"',
    b' ""',
    b'" "',
    b"\r",
    b' "a\\"b"',
    b' "\xe9"',
    b" ",
)
WHOLE = (
    b"",
    b" ",
    b"\r",
    b"\0\0\0",
    b"hello",
    b'"',
    b'""""""',
    b"{}",
    b'{"a":',
    b"\xff\xfe",
    b"#Fields: date time",
    b"a,b,c",
    b'\\"',
    b"\xef\xbb\xbf",
    b'a " " b',
)


@st.composite
def log_lines(draw: st.DrawFn) -> bytes:
    """Mostly a line as servers write it, with at most a few fields that are odd; sometimes cut off."""
    odd = draw(st.integers(0, 3)) == 0

    def pick(values: tuple[bytes, ...]) -> bytes:
        return draw(st.sampled_from(values if odd else values[:2]))

    if draw(st.integers(0, 9)) == 0:
        return draw(st.one_of(st.sampled_from(WHOLE), st.binary(max_size=40).map(lambda data: data.replace(b"\n", b""))))
    host = draw(st.sampled_from((b"", b"", b"www.example.com:443 ", b"[::1]:80 ", b" ")))
    line = b'%s%s %s [%s] "%s" %s %s' % (host, pick(IPS), pick(USERS), pick(TIMES), pick(REQUESTS), pick(STATUSES), pick(SIZES))
    if draw(st.integers(0, 5)):
        line += b' "%s" "%s"%s' % (draw(st.sampled_from(FIELDS)), draw(st.sampled_from(FIELDS)), pick(TAILS))
    return line[: draw(st.integers(0, len(line)))] if draw(st.integers(0, 19)) == 0 else line


def by_hand(data: bytes, variant: str) -> Parsed:
    """All lines by the exact parser."""
    parse = line_parser(variant)
    lines = [line.removesuffix(b"\r") for line in (data + b"\n" * (not data.endswith(b"\n"))).split(b"\n")[:-1]]
    lines[0] = lines[0].removeprefix(BOM)
    found = [parse(line) for line in lines]
    rejects = [Reject(reason_of(line), line) for line, row in zip(lines, found, strict=True) if row is None]
    rows = [{**dict.fromkeys(ROWS, ""), "spent": -1, **row._asdict()} for row in found if row is not None]
    return Parsed(pl.DataFrame(rows, schema=ROWS), rejects, len(lines))


@settings(max_examples=200, deadline=None)
@given(st.lists(log_lines(), min_size=1, max_size=30), st.sampled_from(VARIANTS), st.sampled_from((b"\n", b"\n", b"\r\n")), st.booleans())
@example([b'1.2.3.4 - - [23/Sep/2026:16:13:20 +0200] "GET / HTTP/1.1" 200 1 "a\\" \\"b" "c"', b""], "combined", b"\n", True)
def test_fast_and_exact_are_equal(lines: list[bytes], variant: str, end: bytes, ended: bool) -> None:
    ended = ended or not lines[-1]  # a chunk's last line that is empty and has no end is no line
    data = end.join(lines) + end * ended
    found, expected = Combined(variant).parse(data), by_hand(data, variant)
    assert found.rows.schema == pl.Schema(ROWS)
    assert found.lines == expected.lines == found.rows.height + len(found.rejects)
    assert found.rejects == expected.rejects
    assert found.rows.to_dicts() == expected.rows.to_dicts()


@settings(max_examples=100, deadline=None)
@given(st.lists(st.binary(max_size=60), max_size=20))
def test_no_line_of_any_bytes_is_lost(parts: list[bytes]) -> None:
    data = b"\n".join(parts)
    lines = data.count(b"\n") + (not data.endswith(b"\n") and bool(data))
    for variant in VARIANTS:
        found = Combined(variant).parse(data)
        assert found.lines == lines == found.rows.height + len(found.rejects)
        assert all(reject.reason in REASONS for reject in found.rejects)


NGINX = rb'203.0.113.7 - - [23/Sep/2026:16:13:20 +0200] "GET /caf\xC3\xA9?q=\x22x\x22 HTTP/2.0" 200 512 "https://example.org/" "A \x22B\x22 \x5C"'
APACHE = rb'2001:db8::1 - Al B [23/Sep/2026:10:13:20 -0400] "POST /a\tb\"c\" HTTP/1.1" 304 - "-" "A \"B\" \\" "-" 0.01'


def test_what_nginx_and_apache_write() -> None:
    parse = line_parser("combined")
    assert parse(NGINX) == Line(
        1790172800, "203.0.113.7", "GET", '/café?q="x"', "HTTP/2.0", 200, 512, "https://example.org/", 'A "B" \\', ""
    )
    assert parse(APACHE) == Line(1790172800, "2001:db8::1", "POST", '/a\tb"c"', "HTTP/1.1", 304, -1, "", 'A "B" \\', "")


def test_common_has_no_agent_and_vhost_has_a_host() -> None:
    line = b'203.0.113.7 - - [23/Sep/2026:16:13:20 +0200] "GET / HTTP/1.1" 200 5'
    (row,) = Combined("common").parse(line).rows.to_dicts()
    assert (row["ip"], row["bytes"], row["ua"], row["host"]) == ("203.0.113.7", 5, "", "")
    assert Combined("combined").parse(line).rows.height == 0
    (row,) = Combined("vhost_combined").parse(b"www.example.com:443 " + line + b' "-" "curl/8.9.1"').rows.to_dicts()
    assert (row["ip"], row["bytes"], row["ua"], row["host"]) == ("203.0.113.7", 5, "curl/8.9.1", "www.example.com:443")


def test_a_memoryview_will_do_and_nothing_is_nothing() -> None:
    assert Combined().parse(memoryview(NGINX)).rows.equals(Combined().parse(NGINX).rows)
    nothing = Combined().parse(b"")
    assert (nothing.rows.schema, nothing.rows.height, nothing.rejects, nothing.lines) == (pl.Schema(ROWS), 0, [], 0)


def test_another_variant_is_refused() -> None:
    with pytest.raises(ValueError, match="common, combined, vhost_combined"):
        Combined("json")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"", "blank"),
        (b" \r", "blank"),
        (rb'1.2.3.4 - - [23/Sep/2026:16:13:20 +0200] "\x16\x03\x01\x02" 400 157 "-" "-"', "tls"),
        (b"\x16\x03\x01\x02", "tls"),
        (rb'1.2.3.4 - - [23/Sep/2026:16:13:20 +0200] "\x03\x00\x00/" 400 157 "-" "-"', "binary"),
        (b"\0\0\0", "binary"),
        (b'1.2.3.4 - - [23/Sep/2026:16:13:20 +0200] "GET / HT', "truncated"),
        (b"1.2.3.4 - - [23/Sep", "truncated"),
        (b'{"time": 12, "ur', "truncated"),
        (b"hello", "other"),
    ],
)
def test_rejects_are_classed(line: bytes, reason: str) -> None:
    assert reason_of(line) == reason
    assert Combined().parse(line + b"\n").rejects == [Reject(reason, line.removesuffix(b"\r"))]


@pytest.mark.parametrize("name", ["shop", "office", "apache_2015"])
def test_real_logs_are_read_whole(name: str) -> None:
    data = gzip.decompress((SHARED / "logs" / f"{name}.log.gz").read_bytes())
    found = Combined().parse(data)
    parse = line_parser("combined")
    lines = data.splitlines() if data.isascii() else data.removesuffix(b"\n").split(b"\n")
    assert found.lines == len(lines)
    expected: list[Any] = [row for line in lines[:: max(1, len(lines) // 3000)] if (row := parse(line.removesuffix(b"\r")))]
    assert found.rows.height + len(found.rejects) == found.lines
    assert len(found.rejects) < found.lines / 100
    told = set(found.rows.select(Line._fields).iter_rows())
    assert set(map(tuple, expected)) <= told


def test_epochs() -> None:
    assert epoch(b"01/Jan/1970:01:00:00 +0100") == 0
    assert epoch(b"31/Dec/2016:23:59:60 +0000") == 1483228800
    assert epoch(b"29/Feb/2026:00:00:00 +0000") is None
