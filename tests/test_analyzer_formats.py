"""What each format reads, and that its columns say the same as its exact parser, line by line, whatever the lines hold."""

from __future__ import annotations

import gzip
import json
import re
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from crawlguard_analyzer import formats
from crawlguard_analyzer.formats import times
from crawlguard_analyzer.formats.jsonl import Json
from crawlguard_analyzer.formats.strings import Known
from crawlguard_analyzer.formats.wrapped import Wrapped, bare
from crawlguard_analyzer.parsed import Parsed
from crawlguard_analyzer.rows import ROWS
from hypothesis import given, settings
from hypothesis import strategies as st

from crawlguard.errors import DataError

from .conftest import SHARED

SAMPLES = Path(__file__).parent / "data" / "logs"
FIXTURES = SHARED / "logs" / "formats"


def read(name: str) -> bytes:
    own = SAMPLES / name
    (path,) = [own] if own.exists() else FIXTURES.glob(f"*/*{name}")
    data = path.read_bytes()
    return gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data


def counted(parsed: Parsed) -> Counter[str]:
    assert parsed.lines == parsed.rows.height + len(parsed.rejects)
    assert dict(parsed.rows.schema) == ROWS
    assert not any(parsed.rows.null_count().row(0))
    return Counter(reject.reason for reject in parsed.rejects)


# ---- told by the first lines ----

TOLD = [
    ("combined.log", "nginx/Apache combined", 5),
    ("common.log", "nginx/Apache common", 2),
    ("vhost.log", "nginx/Apache vhost_combined", 2),
    ("litespeed.log", "LiteSpeed", 2),
    ("nginx.json", "JSON lines", 3),
    ("caddy.json", "caddy", 2),
    ("traefik.json", "traefik", 1),
    ("crawlguard.json", "crawlguard", 3),
    ("iis.log", "W3C", 3),
    ("cloudfront.log", "W3C", 2),
    ("alb.log", "AWS ALB", 3),
    ("haproxy.log", "HAProxy HTTP in syslog", 3),
    ("envoy.log", "Envoy's default", 2),
    ("kubernetes.log", "nginx/Apache combined in a container runtime", 1),
    ("litespeed-http-sensitive-files.log", "nginx/Apache combined", 6),
    ("traefik_base-http-scenario.log", "traefik", 80),
    ("traefik_clf.log", "nginx/Apache combined", 7),
    ("logfile_caddy_log.0", "caddy in docker compose", 4),
    ("logfile_caddy_log.1", "caddy", 4),
    ("envoy-http-crawl-non_statics.log", "envoy-json in a container runtime", 41),
    ("aws-alb-logs.log", "AWS ALB", 14),
    ("logfile_haproxy.0", "HAProxy HTTP in syslog", 13),
    ("bunkerweb-http-malformed.log", "nginx/Apache vhost_combined", 7),
    ("nginx-proxy-manager-logs__nginx-proxy-manager-logs.log", "Nginx Proxy Manager", 6),
    ("zoraxy-http-logs__zoraxy.log", "Zoraxy", 13),
    ("u_ex100815.log", "W3C", 16),
    ("u_ex160110.log", "W3C", 28),
    ("ex960101.log", "W3C", 5),
    ("w3c_big.0", "W3C", 210),
    ("logfile_w3c.1", "W3C", 1),
    ("logfile_w3c.3", "W3C", 2),
    ("shop_access_log.0.gz", "nginx/Apache combined", 1000),
]


@pytest.mark.parametrize(("name", "taken_for", "rows"), TOLD)
def test_a_format_is_told_by_the_first_lines(name: str, taken_for: str, rows: int) -> None:
    data = read(name)
    one = formats.detect(data, path=name)
    assert one.name.startswith(taken_for)
    assert one.name.split(" (")[0] in one.describe() or one.name.split(" in ")[0] in one.describe()
    parsed = one.parse(data)
    counted(parsed)
    assert parsed.rows.height == rows
    assert parsed.lines == len(data.removesuffix(b"\n").split(b"\n"))


@pytest.mark.parametrize("host", ["", "www.example.org "])
@pytest.mark.parametrize("good", [0, 1])
def test_a_log_that_begins_with_what_is_no_request(host: str, good: int) -> None:
    garbage = [r"\x16\x03\x01\x02\x00\x01", r"\x03\x00\x00/*\xE0\x00\x00", r"\x16\x03\x01\x00\xEE \x22 \""]
    start = f"{host}192.0.2.7 - - [26/Nov/2026:00:00:07 +0000]"
    lines = [f'{start} "{one}" 400 150 "-" "-"' for one in garbage * 4] + [f'{start} "GET / HTTP/1.1" 200 9 "-" "x"'] * good
    data = "\n".join(lines).encode()
    one = formats.detect(data)
    assert one.name == ("nginx/Apache vhost_combined" if host else "nginx/Apache combined")
    parsed = one.parse(data)
    counted(parsed)
    assert (parsed.rows.height, parsed.lines) == (good, 12 + good)
    assert {reject.reason for reject in parsed.rejects} == {"tls", "binary"}


@pytest.mark.parametrize("name", [name for name, _, _ in TOLD])
@pytest.mark.parametrize("size", [200, 5000])
def test_chunks_do_not_matter(name: str, size: int) -> None:
    data = read(name)
    one = formats.detect(data)
    whole = one.parse(data)
    parts: list[Parsed] = []
    held = b""
    for line in data.splitlines(keepends=True) if b"\r" not in data.replace(b"\r\n", b"") else []:
        held += line
        if len(held) >= size:
            parts.append(one.parse(held))
            one, held = one.after(held), b""
    parts.append(one.parse(held))
    assert pl.concat([part.rows for part in parts]).equals(whole.rows)
    assert [reject for part in parts for reject in part.rejects] == whole.rejects


def test_an_unknown_log_is_refused_with_its_first_line() -> None:
    with pytest.raises(DataError) as told:
        formats.detect(b"\nhello \x1b[31m<b>" + b"x" * 500 + b"\nworld\n", path="/var/log/syslog")
    assert "/var/log/syslog: the format of its lines is not known" in str(told.value)
    assert "hello \\x1b[31m<b>xxx" in str(told.value)
    assert "\x1b" not in str(told.value)
    assert "--format" in str(told.value)
    assert len(str(told.value)) < 900


def test_garbage_among_the_first_lines_does_not_hide_a_format() -> None:
    garbage = b'1.2.3.4 - - [10/Oct/2026:13:55:36 +0000] "\\x16\\x03\\x01" 400 157 "-" "-"\n\0\0\0\n\xff\xfe\n'
    one = formats.detect(garbage + read("combined.log"))
    assert one.name == "nginx/Apache combined"
    assert counted(one.parse(garbage)) == {"tls": 1, "binary": 1, "other": 1}


@pytest.mark.parametrize(
    "name", ["ex010320.log", "ex031118.log", "pf040903.log", "iis-logs.log", "nginx-mail-bf.log", "caddy-coraza__coraza.log"]
)
def test_what_is_no_access_log_is_none(name: str) -> None:
    with pytest.raises(DataError):
        formats.detect(read(name))


# ---- named ----

MAIN = '$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent"'
LINE = b'203.0.113.9 - - [10/Oct/2026:13:55:36 +0200] "GET /a?b HTTP/2.0" 200 5 "https://e.org/" "Moz \\x22x\\x22"'
ROW = (1791633336, "203.0.113.9", "GET", "/a?b", "HTTP/2.0", 200, 5, "https://e.org/", 'Moz "x"', "", "", "", -1)


def one_row(one: formats.Format, line: bytes) -> tuple[Any, ...]:
    parsed = one.parse(line)
    assert counted(parsed) == {}
    return parsed.rows.row(0)


@pytest.mark.parametrize(
    "form",
    [
        MAIN,
        MAIN + ' "$http_x_forwarded_for" rt=$request_time',
        '%h %l %u %t \\"%r\\" %>s %b \\"%{Referer}i\\" \\"%{User-Agent}i\\"',
        '%h %l %u %t "%r" %>s %O "%{Referer}i" "%{User-Agent}i" %D',
    ],
)
def test_combined_and_a_tail_take_the_fast_path(form: str) -> None:
    one = formats.named(form)
    assert isinstance(one, Known)
    assert one_row(one, LINE) == ROW


def test_vhost_and_common_take_the_fast_path() -> None:
    for form in (
        "$host " + MAIN,
        '%v:%p %h %l %u %t "%r" %>s %O "%{Referer}i" "%{User-Agent}i"',
        '%v %h %l %u %t "%r" %>s %b "%{Referer}i" "%{User-Agent}i"',
    ):
        assert formats.named(form).name.endswith("(as vhost_combined)")
    assert formats.named('%h %l %u %t "%r" %>s %b').name.endswith("(as common)")
    assert one_row(formats.named("$host " + MAIN), b"e.org " + LINE) == (*ROW[:9], "e.org", "", "", -1)


@pytest.mark.parametrize(
    ("form", "line", "changed"),
    [
        (
            '[$time_iso8601] $host $remote_addr "$request_method $scheme://x$request_uri $server_protocol" $status/$body_bytes_sent ua="$http_user_agent" $http_referer',
            b'[2026-10-10T13:55:36+02:00] e.org 203.0.113.9 "GET https://x/a?b HTTP/2.0" 200/5 ua="Moz \\x22x\\x22" https://e.org/',
            {9: "e.org"},
        ),
        (
            "$msec|$remote_addr|$request|$status|$bytes_sent|$http_referer|$http_user_agent",
            b'1791633336.123|203.0.113.9|GET /a?b HTTP/2.0|200|5|https://e.org/|Moz "x"',
            {},
        ),
        (
            '$remote_addr $remote_user [$time_local] "$uri$is_args$args" $status "$http_user_agent"',
            LINE.replace(b"- -", b"-").replace(b'"GET /a?b HTTP/2.0" 200 5 "https://e.org/"', b'"/a?b" 200'),
            {2: "", 4: "", 6: -1, 7: ""},
        ),
        (
            '%{%Y-%m-%dT%H:%M:%S%z}t %a "%m %U%q %H" %s %B "%{User-Agent}i" "%{Referer}i" 100%%',
            b'2026-10-10T13:55:36+0200 203.0.113.9 "GET /a?b HTTP/2.0" 200 5 "Moz \\"x\\"" "https://e.org/" 100%',
            {},
        ),
        ("%h %{sec}t \\t%r\\t %s", b"203.0.113.9 1791633336 \tGET /a?b HTTP/2.0\t 200", {6: -1, 7: "", 8: ""}),
        (
            '$http_x_forwarded_for [$time_local] "$request" $status',
            b'6.6.6.6, 203.0.113.9 [10/Oct/2026:13:55:36 +0200] "GET /a?b HTTP/2.0" 200',
            {6: -1, 7: "", 8: ""},
        ),
        (
            '{"t":"$time_iso8601","a":{"ip":"$remote_addr"},"r":"$request","s":$status,"b":$body_bytes_sent,"ref":"$http_referer","ua":"$http_user_agent"}',
            b'{"t":"2026-10-10T13:55:36+02:00","a":{"ip":"203.0.113.9"},"r":"GET /a?b HTTP/2.0","s":200,"b":5,"ref":"https://e.org/","ua":"Moz \\"x\\""}',
            {},
        ),
    ],
)
def test_strings_of_all_kinds(form: str, line: bytes, changed: dict[int, object]) -> None:
    expected = tuple(changed.get(place, value) for place, value in enumerate(ROW))
    if "://x" in form:
        expected = (*expected[:2], "GET", "/a?b", *expected[4:])
    assert one_row(formats.named(form), line) == expected


def test_the_client_field() -> None:
    form = MAIN + ' "$http_x_forwarded_for"'
    line = LINE + b' "6.6.6.6, 198.51.100.7"'
    assert one_row(formats.named(form), line)[1] == "203.0.113.9"
    for client in ("$http_x_forwarded_for", "http_x_forwarded_for"):
        chosen = formats.named(form, client=client)
        assert "http_x_forwarded_for" in chosen.describe()
        assert one_row(chosen, line)[1] == "198.51.100.7"
    apache = formats.named('%h %l %u %t "%r" %>s %b "%{X-Forwarded-For}i"', client="X-Forwarded-For")
    assert one_row(apache, LINE.split(b' "https')[0] + b' "198.51.100.7"')[1] == "198.51.100.7"
    both = b'{"time":"2026-10-10T13:55:36Z","remote_addr":"1.1.1.1","http_x_forwarded_for":"2.2.2.2","request":"GET / HTTP/1.1","status":"200"}\n'
    assert one_row(formats.detect(both), both)[1] == "1.1.1.1"
    assert one_row(formats.detect(both, client="http_x_forwarded_for"), both)[1] == "2.2.2.2"
    w3c = b"#Fields: date time c-ip cs-method cs-uri-stem x-real\n2026-10-10 13:55:36 1.1.1.1 GET / 2.2.2.2\n"
    assert formats.detect(w3c).parse(w3c).rows["ip"].to_list() == ["1.1.1.1"]
    assert formats.detect(w3c, client="X-Real").parse(w3c).rows["ip"].to_list() == ["2.2.2.2"]
    for sample, client in ((both, "nobody"), (LINE, "http_x_forwarded_for")):
        with pytest.raises(DataError, match="--client-field"):
            formats.detect(sample, client=client)
    with pytest.raises(DataError, match="one address"):
        formats.named("combined", client="x")


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ("nonsense", "is no format; name one of combined"),
        ('[$time_local] "$request"', "address"),
        ('$remote_addr "$request"', "time"),
        ("$remote_addr [$time_local]", "asked for"),
        ('$remote_addr$status [$time_local] "$request"', "follow each other"),
        ("{$remote_addr", "not the JSON"),
        ("json", "no JSON objects"),
    ],
)
def test_a_name_that_cannot_be_used(form: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        formats.named(form)


@pytest.mark.parametrize("name", ["combined", "iis", "cloudfront", "ALB", "haproxy", "npm", "clf"])
def test_names(name: str) -> None:
    assert formats.named(name).describe()


def test_a_named_format_behind_a_prefix() -> None:
    data = read("kubernetes.log")
    assert formats.named("combined", sample=data).parse(data).rows.height == 1
    envoy = read("envoy-http-crawl-non_statics.log")
    assert formats.named("json", sample=envoy).parse(envoy).rows.height == 41


# ---- how long the server took ----


def spent(form: str, *lines: bytes) -> list[int]:
    found: list[int] = formats.named(form).parse(b"\n".join(lines)).rows["spent"].to_list()
    return found


@pytest.mark.parametrize(
    ("form", "tail", "micros"),
    [
        (MAIN + " $request_time", b" 0.045", 45_000),
        (MAIN + ' "$http_x_forwarded_for" rt=$request_time', b' "1.1.1.1, 2.2.2.2" rt=1.5', 1_500_000),
        (MAIN + ' rt=$request_time uct="$upstream_connect_time" urt="$upstream_response_time"', b' rt=9.000 uct="0.000" urt="0.004, 0.012 : 0.1"', 100_000),
        (MAIN + ' rt=$request_time uct="$upstream_connect_time" urt="$upstream_response_time"', b' rt=9.000 uct="-" urt="-"', -1),
        ("$host " + MAIN + " [$request_time]", b" [0.001]", 1000),
        ('%h %l %u %t "%r" %>s %O "%{Referer}i" "%{User-Agent}i" %D', b" 1234", 1234),
        ('%h %l %u %t "%r" %>s %O "%{Referer}i" "%{User-Agent}i" %T/%D', b" 1/1234567", 1_234_567),
        ('%h %l %u %t "%r" %>s %O "%{Referer}i" "%{User-Agent}i" %{ms}T', b" 7", 7000),
        (MAIN + " $request_time", b" 99999999", 2**31 - 1),
        (MAIN + " $request_time", b" x", -1),
        (MAIN + " $request_time", b"", -1),
    ],
)  # fmt: skip
def test_times_behind_combined(form: str, tail: bytes, micros: int) -> None:
    line = LINE.replace(b"\\x22", b"")
    assert isinstance(formats.named(form), Known)
    before = b"e.org " if form.startswith("$host") else b""
    assert spent(form, before + line + tail, before + line, before + line + tail) == [micros, -1, micros]


def test_times_in_lines_of_every_other_shape() -> None:
    assert spent(
        '$request_time $remote_addr [$time_local] "$request" $status', b'0.002 1.1.1.1 [10/Oct/2026:13:55:36 +0200] "GET / HTTP/1.1" 200'
    ) == [2000]
    assert spent('%D %h %t "%r" %s', b'12 1.1.1.1 [10/Oct/2026:13:55:36 +0200] "GET / HTTP/1.1" 200') == [12]
    keys = '{"t":"$time_iso8601","ip":"$remote_addr","r":"$request","rt":"$request_time","u":"$upstream_response_time"}'
    line = '{"t":"2026-10-10T13:55:36Z","ip":"1.1.1.1","r":"GET / HTTP/1.1","rt":"3.0","u":"%s"}'
    assert spent(keys, *((line % one).encode() for one in ("0.25", "-", "0.1, 0.5", "1e-3", "9" * 19))) == [250_000, -1, 500_000, 1000, -1]


@pytest.mark.parametrize(
    ("name", "micros"),
    [
        ("caddy.json", {2}), ("traefik.json", {357}), ("alb.log", {-1, 48_000}), ("haproxy.log", {-1, 1_457_000}), ("cloudfront.log", {1000}),
        ("iis.log", {-1, 15_000}), ("envoy.log", {-1, 48_000}), ("nginx.json", {1000}),
    ],
)  # fmt: skip
def test_times_of_logs_that_are_told_by_their_lines(name: str, micros: set[int]) -> None:
    data = read(name)
    assert set(formats.detect(data).parse(data).rows["spent"]) == micros


# ---- what they read ----


def rows(name: str) -> list[dict[str, Any]]:
    data = read(name)
    return formats.detect(data).parse(data).rows.to_dicts()


def test_caddy() -> None:
    assert rows("caddy.json")[0] == {
        "time": 1791633336, "ip": "203.0.113.9", "method": "GET", "target": "/a?b=ä", "protocol": "HTTP/2.0", "status": 200, "bytes": 5,
        "referrer": "https://e.org/", "ua": "Mozilla/5.0 😀", "host": "e.org", "action": "", "rule": "", "spent": 2,
    }  # fmt: skip


def test_haproxy_finds_agent_and_referrer_among_what_is_captured() -> None:
    first, second, third = rows("haproxy.log")
    assert (first["ip"], first["ua"], first["referrer"]) == ("203.0.113.9", "Mozilla/5.0 (X11) Firefox/140.0", "https://e.org/a")
    assert (second["ip"], second["ua"], second["status"], second["target"]) == ("2001:db8::1", "", 503, "/x y")
    assert (third["method"], third["target"]) == ("", "<BADREQ>")


def test_load_balancers_log_whole_urls() -> None:
    first = rows("alb.log")[0]
    assert (first["host"], first["target"], first["ip"], first["status"], first["bytes"]) == (
        "www.example.com:443",
        "/a?b",
        "192.0.2.1",
        200,
        57,
    )
    assert rows("alb.log")[2]["host"] == ""


def test_cloudfront_and_iis_write_blanks_in_their_ways() -> None:
    assert rows("cloudfront.log")[0]["ua"] == "Mozilla/5.0 (X11) 100%"
    assert rows("iis.log")[0]["ua"] == "Mozilla/5.0 (X11; U)"
    assert rows("iis.log")[0]["target"] == "/a?b=1+2"
    assert rows("iis.log")[2]["ua"] == "second (kind of) columns"


def test_crawlguards_own_log_brings_actions() -> None:
    assert [(row["action"], row["rule"], row["ua"], row["ip"], row["status"]) for row in rows("crawlguard.json")] == [
        ("block", "ai-training", "GPTBot", "203.0.113.7", 403),
        ("allow", "", "", "203.0.113.8", 0),
        ("shadow:throttle", "swarm", "", "", 0),
    ]


def test_the_header_of_an_earlier_chunk_holds() -> None:
    header = b"#Fields: date time c-ip cs-method cs-uri-stem\n"
    one = formats.named("iis")
    assert counted(one.parse(b"2026-10-10 13:55:36 1.1.1.1 GET /\n")) == {"other": 1}
    assert one.after(b"#Version: 1.0\n" + header + b"x\n").parse(b"2026-10-10 13:55:36 1.1.1.1 GET /").rows.height == 1
    other = one.after(header).after(b"#Fields: time date c-ip cs-uri")
    assert other.parse(b"13:55:36 2026-10-10 1.1.1.1 /x").rows["target"].to_list() == ["/x"]


@pytest.mark.parametrize(
    "start", [b"\x1f\x8b", b"x\x01", b"x^", b"x\x9c", b"x\xda", b"\x28\xb5\x2f\xfd", b"\xef\xbb\xbf", b"BZh9", b"PAR1"]
)
def test_a_line_that_begins_as_something_compressed_does_is_a_line(start: bytes) -> None:
    parsed = formats.named("alb").parse(start + b"\n" + read("alb.log"))
    assert [reject.line for reject in parsed.rejects] == [start]
    assert parsed.rows.height == 3


# ---- columns and the exact parser agree ----


OTHERS = [(name, taken_for) for name, taken_for, _ in TOLD if not taken_for.startswith("nginx/Apache")]
"""Samples of formats that have an exact parser beside their columns."""


@cache
def exact(name: str) -> tuple[Any, list[bytes]]:
    """The format of a sample without what wraps its lines, and some of these."""
    data = read(name)
    one = formats.detect(data)
    plain = bare(data, one.wrap) if isinstance(one, Wrapped) else data
    return getattr(one, "inner", one).after(plain), plain.split(b"\n")[-40:]


def test_all_others_have_an_exact_parser_too() -> None:
    """Those of nginx and Apache are held against another one in the tests of combined logs."""
    for name, taken_for, _ in TOLD:
        assert isinstance(exact(name)[0], Known) is ((name, taken_for) not in OTHERS)


HOSTILE = st.sampled_from(
    [b'"', b"\\", b"\\x22", b'\\"', b"-", b" ", b"  ", b"\t", b"\0", b"\x01", b"\x7f", b"\r", b"\xff", b"\xc3\xa4", b"\xe2\x82", b"[", b"]", b"{", b"}", b"|", b"#",
     b",", b":", b";", b"\\ud83d", b"\\ud83d\\ude00", b"\\u0000", b"null", b"NaN", b"1e5", b"1.0", b"-1", b"0", b"true", b"%20", b"%", b"+", b"?", b"://", b'"a":1,', b"<b>",
     b"2026-02-30", b"+0530", b"Z", b"10/Oct/2026:13:55:36", b"::1", b"[::1]:80", b"1.2.3.4:5", b"GET", b"get", b"HTTP/1.1", b"\xed\xa0\x80", b"\x1b[31m", b"9" * 30]
) | st.binary(max_size=6)  # fmt: skip


@cache
def place_in(length: int) -> st.SearchStrategy[int]:
    return st.integers(0, length) | st.just(0)


TIMES, LENGTH = st.integers(0, 3), st.integers(0, 12)


@st.composite
def spoiled(draw: st.DrawFn, lines: st.SearchStrategy[bytes]) -> bytes:
    """A line of a sample with some of it replaced."""
    line = draw(lines)
    for _ in range(draw(TIMES)):
        start = draw(place_in(len(line)))
        line = line[:start] + draw(HOSTILE) + line[start + draw(LENGTH) :]
    return line.replace(b"\n", b"")


@cache
def logs_like(name: str) -> st.SearchStrategy[list[bytes]]:
    """Lines of a sample, most of them spoiled: made once, as examining a strategy takes as long as drawing from it."""
    _, lines = exact(name)
    junk = st.binary(max_size=20).map(lambda raw: raw.replace(b"\n", b""))
    return st.lists(spoiled(st.sampled_from(lines)) | junk, min_size=1, max_size=12)


@pytest.mark.parametrize("name", [name for name, _ in OTHERS])
@settings(max_examples=60, deadline=None)
@given(st.data())
def test_columns_and_the_exact_parser_agree(name: str, data: st.DataObject) -> None:
    one, _ = exact(name)
    found = data.draw(logs_like(name))
    found = [line for line in found if not line.startswith(b"#Fields")] or [b""]
    parsed = one.parse(b"\n".join(found) + b"\n")
    expected = [one.exact(line.removesuffix(b"\r")) for line in found]
    assert parsed.rows.rows() == [row for row in expected if row is not None]
    assert [reject.line for reject in parsed.rejects] == [
        line.removesuffix(b"\r") for line, row in zip(found, expected, strict=True) if row is None
    ]
    counted(parsed)


ISO = r"[0-9]{4}-[01][0-9]-[0-3][0-9][T ][0-2][0-9]:[0-5][0-9]:[0-6][0-9]([.,][0-9]{0,3})?( ?(Z|UTC|[+-][0-9]{2}:?[0-9]{2}))?([.,][0-9])?"
CLF = r"[0-3][0-9]/(Jan|Feb|Okt)/[0-9]{4}:[0-2][0-9]:[0-5][0-9]:[0-6][0-9]([.,][0-9]{0,3})?( ?(Z|UTC|[+-][0-9]{2}:?[0-9]{2}))?([.,][0-9])?"
EPOCH = r"[0-9]{7,18}([.][0-9]{0,20})?"


@cache
def texts_like(pattern: str) -> st.SearchStrategy[list[str]]:
    return st.lists(st.from_regex(pattern, fullmatch=True) | st.text(max_size=30), max_size=9)


@pytest.mark.parametrize(("pattern", "first"), [(ISO, "2026-10-10T13:55:36.5Z"), (CLF, "10/Oct/2026:13:55:36"), (EPOCH, "1791640536.25")])
@settings(max_examples=50, deadline=None)
@given(st.data())
def test_a_column_of_times_is_the_exact_one(pattern: str, first: str, data: st.DataObject) -> None:
    texts = data.draw(texts_like(pattern))
    found = times.column(pl.Series([first, None, *texts], dtype=pl.String)).to_list()
    assert found[:2] == [1791640536, None]
    usual = [times.seconds(text) if (len(text) > 2 and first[2] == text[2] == "/") or first[2] != "/" else None for text in texts]
    for text, one, expected in zip(texts, found[2:], usual, strict=True):
        assert one in (expected, None)
        assert one == expected or re.fullmatch(pattern, text) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10/Oct/2026:13:55:36 +0200", 1791633336),
        ("10/Oct/2026:13:55:36.123", 1791640536),
        ("2026/10/10 13:55:36", 1791640536),
        ("2026-10-10T13:55:36,9+02:00", 1791633336),
        ("2026-10-25T02:30:00+02:00", 1792888200),  # the hour that comes twice, the first time
        ("2026-10-25T02:30:00+01:00", 1792891800),  # and the second
        ("1791640536.999", 1791640536),
        ("1791640536999", 1791640536),
        ("1791640536999000", 1791640536),
        ("1791640536999000000", 1791640536),
        ("2016-12-31T23:59:60Z", 1483228800),
        ("2026-02-29T00:00:00Z", None),
        ("10/Okt/2026:13:55:36 +0200", None),
        ("2026-10-10T24:00:00Z", None),
        ("", None),
    ],
)
def test_times(text: str, expected: int | None) -> None:
    assert times.seconds(text) == expected


def test_json_goes_on_after_lines_that_polars_refuses() -> None:
    good = read("nginx.json").splitlines()[0]
    lines = [good] * 5000
    for place, bad in ((7, b'{"a":}'), (70, b"[1]"), (4000, b'{"a":1}{"a":2}'), (4001, b"nothing"), (4999, good[:40])):
        lines[place] = bad
    lines[2000] = good.replace(b'"request":', b'"request":["GET /list HTTP/1.1"],"x":')
    one = formats.detect(good)
    assert isinstance(one, Json)
    parsed = one.parse(b"\n".join(lines))
    assert parsed.lines == 5000
    assert [reject.line for reject in parsed.rejects] == [lines[place] for place in (7, 70, 4000, 4001, 4999)]
    assert parsed.rows["target"][1998] == "/list"


def test_keys_are_found_by_their_common_names() -> None:
    line = json.dumps(
        {
            "@timestamp": "2026-10-10T13:55:36Z",
            "clientip": "1.1.1.1",
            "verb": "GET",
            "url": "https://e.org/x?y",
            "response": 200,
            "agent": "curl/8",
            "bytes": 7,
        }
    )
    row = formats.detect(line.encode()).parse(line.encode()).rows.row(0)
    assert row == (1791640536, "1.1.1.1", "GET", "/x?y", "", 200, 7, "", "curl/8", "e.org", "", "", -1)
