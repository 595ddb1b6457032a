"""The page: well-formed, escaped, small, accessible; and in a real browser it runs nothing and asks for nothing."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import polars as pl
import pytest
from crawlguard_analyzer import tables as module
from crawlguard_analyzer.report.html import POLICY, page
from crawlguard_analyzer.report.markup import EMPTY, Markup, el, join
from crawlguard_analyzer.report.style import CSS
from crawlguard_analyzer.report.svg import bar_days, curve, scale, share_bar, spark, stacked_days
from crawlguard_analyzer.tables import CLASSES
from hypothesis import given
from hypothesis import strategies as st

from .analyzer_report_sample import HOSTILE, KINDS, Kind, analysis, hostile

ELEMENTS = frozenset(
    [
        "html",
        "head",
        "meta",
        "link",
        "title",
        "style",
        "body",
        "header",
        "main",
        "footer",
        "section",
        "nav",
        "h1",
        "h2",
        "h3",
        "p",
        "ul",
        "li",
        "a",
        "b",
        "dl",
        "dt",
        "dd",
        "div",
        "span",
        "figure",
        "figcaption",
        "svg",
        "desc",
        "g",
        "rect",
        "line",
        "path",
        "text",
        "table",
        "caption",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "details",
        "summary",
        "pre",
        "code",
    ]
)
"""All that the page is made of; none of them runs or loads anything."""
ATTRIBUTES = frozenset(
    [
        "lang",
        "charset",
        "http-equiv",
        "content",
        "name",
        "rel",
        "href",
        "id",
        "class",
        "aria-label",
        "aria-labelledby",
        "aria-hidden",
        "role",
        "tabindex",
        "scope",
        "viewbox",
        "preserveaspectratio",
        "x",
        "y",
        "x1",
        "x2",
        "y1",
        "y2",
        "d",
        "width",
        "height",
        "rx",
        "text-anchor",
    ]
)


class Reader(HTMLParser):
    """A strict reading: every element is closed in its turn, and every text and attribute is kept."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.raw: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs)
        self.open.append(tag)
        self.elements.append((tag, dict(attrs)))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in EMPTY
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        (self.raw if self.open and self.open[-1] == "style" else self.texts).append(data)

    def handle_comment(self, data: str) -> None:
        raise AssertionError("a comment")

    def unknown_decl(self, data: str) -> None:
        raise AssertionError("a declaration")


def assert_harmless(text: str) -> Reader:
    read = Reader(text)
    assert {name for name, _ in read.elements} <= ELEMENTS
    for name, attributes in read.elements:
        assert attributes.keys() <= ATTRIBUTES, name
        assert re.fullmatch(r"#[a-z]+|data:,", attributes.get("href") or "#a")
        assert name != "meta" or attributes.get("http-equiv") in (None, "Content-Security-Policy")
    assert read.raw == [CSS]
    assert all(ord(c) < 0x250 for c in text)
    assert text.replace("\n", "").isprintable()
    assert len(text) < 1_000_000
    return read


# ---- as a text


@pytest.fixture(scope="module")
def month() -> str:
    return page(analysis(), now=1_793_200_000, then="crawlguard propose access.log*")


def test_the_page_is_well_formed_and_holds_every_section(month: str) -> None:
    read = assert_harmless(month)
    ids = [attributes["id"] for _, attributes in read.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = [str(attributes["href"])[1:] for name, attributes in read.elements if name == "a"]
    assert links == ["load", "days", "agents", "undeclared", "networks", "guard", "threshold", "log", "next"]
    assert set(links) <= set(ids)
    text = " ".join(read.texts)
    for part in (
        "540,152",
        "GPTBot",
        "obeys",
        "disobeys 4x",
        "16% under a false name",
        "43.130.0.0/16",
        "calls itself Googlebot",
        "flood-from-one-address",
        "crawlguard propose access.log*",
    ):
        assert part in text


def test_the_policy_of_the_page_forbids_everything_but_its_style(month: str) -> None:
    metas = [attributes for name, attributes in Reader(month).elements if name == "meta"]
    assert {"http-equiv": "Content-Security-Policy", "content": POLICY} in metas
    for part in ("default-src 'none'", "style-src 'unsafe-inline'", "img-src data:"):
        assert part in POLICY
    assert "url(" not in CSS
    assert "@import" not in CSS


def test_pictures_are_told_in_words_or_hidden_where_words_stand_beside_them(month: str) -> None:
    read = Reader(month)
    ids = {attributes.get("id") for _, attributes in read.elements}
    pictures = [attributes for name, attributes in read.elements if name == "svg"]
    named = [a for a in pictures if a.get("role") == "img"]
    assert len(named) == 2
    assert all(set(str(a["aria-labelledby"]).split()) <= ids for a in named)
    assert all(a.get("aria-hidden") == "true" for a in pictures if a not in named)
    tables = [attributes for name, attributes in read.elements if name == "div" and attributes.get("role") == "region"]
    assert len(tables) == len(re.findall("<table", month)) == len(re.findall("<caption", month)) == 10
    assert all(a["tabindex"] == "0" and a["aria-label"] for a in tables), "what scrolls can be reached by the keyboard"


def test_every_class_has_a_colour_in_the_light_and_in_the_dark() -> None:
    for name in CLASSES:
        assert CSS.count(f"--{name}: #") == 2
        assert f".c-{name} {{ fill: var(--{name}); }}" in CSS


@pytest.mark.parametrize("part", [0, 1], ids=["light", "dark"])
def test_text_and_pictures_stand_out(part: int) -> None:
    """WCAG 2.2: 4.5:1 for text (1.4.3), 3:1 for what a chart is made of (1.4.11)."""
    colours = dict(re.findall(r"--([a-z]+): (#[0-9a-f]{3,6});", CSS.split("@media screen")[part].split("* {")[0]))
    for name in ("ink", "soft", "accent", "bad", "good"):
        assert _contrast(colours[name], colours["paper"]) >= 4.5, name
    for name in CLASSES:
        assert _contrast(colours[name], colours["paper"]) >= 3, name


def _contrast(one: str, other: str) -> float:
    def luminance(colour: str) -> float:
        digits = colour[1:] if len(colour) == 7 else "".join(c * 2 for c in colour[1:])
        parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
        red, green, blue = (p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_log_changes_nothing_but_texts(text: str) -> None:
    read = assert_harmless(page(hostile(text), then=f"crawlguard propose {text}"))
    harmless = assert_harmless(page(hostile("harmless"), then="crawlguard propose harmless"))
    assert [name for name, _ in read.elements] == [name for name, _ in harmless.elements]


def test_the_page_stays_small_whatever_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three years, every class every day, tables full to their bounds, of long texts full of what must be escaped."""
    monkeypatch.setattr(module, "MOST_TRENDS", 500)
    kinds = [Kind(name, 30, f"{10 + i}.{{}}.7", 64500 + i, 9, 0.9, "x", swarm=f"s{i}") for i, name in enumerate(CLASSES)]
    kinds += [Kind("declared", 1, f"99.{i}.7", 64500, 9, 0.99, "x", f"agent {i}", "b", "c", "verified") for i in range(30)]
    kinds += [Kind("swarm", 1, f"98.{i}.7", 64500, 9, 0.99, "x", swarm=f"swarm {i}") for i in range(30)]
    big = analysis(kinds=tuple(kinds), days=1095)
    kept = ("class", "kind", "identity", "obeys", "agent", "client", "swarm")
    text = '"' * 10_000
    full = {
        name: table.with_columns(pl.lit(text).alias(c) for c, kind in table.schema.items() if kind == pl.String and c not in kept)
        for name, table in (("undeclared", big.undeclared), ("networks", big.networks), ("swarms", big.swarms), ("agents", big.agents))
    }
    read = assert_harmless(page(replace(big, notes=(text,) * 99, **full)))  # type: ignore[arg-type]
    assert len([1 for name, _ in read.elements if name == "tr"]) > 200


def test_an_empty_log_has_a_page() -> None:
    text = " ".join(assert_harmless(page(analysis(kinds=(), guarded=False))).texts)
    assert "The log holds no request." in text
    assert "What the guard did" not in text


def test_a_class_that_is_new_to_the_page_does_not_break_it() -> None:
    month = analysis(kinds=KINDS[:1], days=3)
    alien = pl.lit("alien").alias("class")
    new = replace(month, clients=month.clients.with_columns(alien), days=month.days.with_columns(alien))
    assert "alien" in " ".join(assert_harmless(page(new)).texts)


# ---- what it is made of


@given(st.text(), st.text())
def test_any_text_comes_out_as_text(child: str, attribute: str) -> None:
    read = Reader(el("p", child, (child for _ in range(2)), el("b", child), title=attribute))
    assert [name for name, _ in read.elements] == ["p", "b"]
    assert el("p", "a & b") == "<p>a &amp; b</p>"
    assert el("a", class_="x", aria_label=None, viewBox=1.50) == '<a class="x" viewBox="1.5"></a>'
    assert join("<", Markup("<"), ["&"]) == "&lt;<&amp;"


@given(st.floats(0, 1e12), st.integers(1, 10))
def test_a_scale_has_few_round_steps_and_reaches_the_top(most: float, parts: int) -> None:
    ticks = scale(most, parts)
    assert ticks[0] == 0
    assert ticks[-1] >= most * 0.998
    assert len(ticks) <= parts + 3


@given(st.lists(st.lists(st.integers(0, 10**9), min_size=3, max_size=3), min_size=1, max_size=400))
def test_bars_stand_on_each_other_inside_the_chart(days: list[list[int]]) -> None:
    import datetime

    every = [datetime.date(2026, 1, 1) + datetime.timedelta(days=i) for i in range(len(days))]
    read = Reader(stacked_days(every, {name: [day[i] for day in days] for i, name in enumerate(("person", "declared", "swarm"))}, "what"))
    bars = [a for name, a in read.elements if name == "rect"]
    assert len([1 for name, _ in read.elements if name == "g"]) >= -(-len(days) // bar_days(len(days)))
    for bar in bars:
        x, y, width, height = (float(str(bar[name])) for name in ("x", "y", "width", "height"))
        assert 0 <= x <= x + width <= 760
        assert 0 <= y <= y + height <= 300.1


def test_the_curve_marks_the_threshold_in_force() -> None:
    drawn = curve([0.0, 1.0, 2.0], {"requests": ([10, 5, 1], "of-requests"), "clients": ([0, 0, 0], "of-clients")}, 1.0, "title", "what")
    assert "in force: 1" in drawn
    assert drawn.count("<path") == 1, "of nothing there is no share"
    assert "in force" not in curve([0.0], {"requests": ([1], "x")}, None, "title", "what")


def test_small_pictures_of_nothing() -> None:
    assert "<rect" not in share_bar({"c-person": 0}, 0)
    assert 'd=""' in spark([])
    assert 'd="M3 20v-20.0h2.4V20z"' in spark([0, 5]), "a day without a request has no bar"


# ---- in a browser


class _Log(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server = self.server
        assert isinstance(server, _Site)
        server.asked.append(self.path)
        body = server.pages.get(self.path, b"")
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


class _Site(ThreadingHTTPServer):
    def __init__(self, pages: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), _Log)
        self.pages, self.asked = pages, []  # type: ignore[var-annotated]


@contextmanager
def serving(pages: dict[str, bytes]) -> Iterator[_Site]:
    with _Site(pages) as site:
        thread = threading.Thread(target=site.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield site
        finally:
            site.shutdown()
            thread.join()


def chromium(url: str, home: Path, *flags: str) -> str:
    """What Chromium makes of a page: its document as it stands after loading, or what the flags ask for."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    program = next(filter(None, map(shutil.which, names)))
    quiet = [
        "--headless",
        "--disable-gpu",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
    ]
    sandbox = ["--no-sandbox"] if hasattr(os, "getuid") and os.getuid() == 0 else []
    ask = flags or ("--dump-dom",)
    command = [program, *quiet, *sandbox, f"--user-data-dir={home}", "--virtual-time-budget=2000", *ask, url]
    return subprocess.run(command, check=True, capture_output=True, timeout=120).stdout.decode()


@pytest.mark.browser
def test_in_chromium_a_hostile_log_runs_no_script_and_asks_for_nothing(tmp_path: Path) -> None:
    everything = "".join(HOSTILE[:7])
    pages = {
        "/report": page(hostile(everything)).encode(),
        "/every": page(hostile(HOSTILE[0])).encode(),
        "/open": f"<!DOCTYPE html><title>x</title><p>{HOSTILE[0]}{HOSTILE[1]}".encode(),
    }
    with serving(pages) as site:
        base = f"http://127.0.0.1:{site.server_port}"
        for path in ("/report", "/every"):
            document = chromium(base + path, tmp_path / path[1:])
            assert "<script" not in document
            assert "<title>Who visits this site: crawlguard report</title>" in document
        assert site.asked == ["/report", "/every"]
        assert "<title>owned</title>" in chromium(f"{base}/open", tmp_path / "open"), "the same text, unescaped, would have run"
        assert "/owned" in site.asked


@pytest.mark.browser
def test_chromium_draws_and_prints_the_page(month: str, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(month)
    url = (tmp_path / "page.html").as_uri()
    chromium(url, tmp_path / "a", f"--screenshot={tmp_path / 'page.png'}", "--window-size=1100,1600")
    picture = (tmp_path / "page.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert len(picture) > 50_000, "it is not blank"
    chromium(url, tmp_path / "b", "--no-pdf-header-footer", f"--print-to-pdf={tmp_path / 'page.pdf'}")
    printed = (tmp_path / "page.pdf").read_bytes()
    assert printed.startswith(b"%PDF")
    assert 2 <= len(re.findall(rb"/Type /Page\b", printed)) <= 9


@pytest.mark.browser
@pytest.mark.parametrize("width", [375, 800])
def test_in_chromium_only_tables_scroll_sideways(width: int, tmp_path: Path) -> None:
    """A narrow window: the page is measured by a script of the test in a frame around it, which its own policy would not let in."""
    body = page(analysis(), then="crawlguard propose /var/log/nginx/access.log* /var/log/nginx/other-access.log*")
    (tmp_path / "page.html").write_text(re.sub("<meta http-equiv[^>]*>", "", body))
    (tmp_path / "frame.html").write_text(
        f"<iframe src=page.html width={width} height=900></iframe><p id=told></p><script>onload = () => {{"
        "const page = document.querySelector('iframe').contentDocument.documentElement;"
        "document.getElementById('told').textContent = `${page.scrollWidth} of ${page.clientWidth}` }</script>"
    )
    document = chromium((tmp_path / "frame.html").as_uri(), tmp_path / "a", "--dump-dom", "--allow-file-access-from-files")
    wide, seen = map(int, re.findall(r">(\d+) of (\d+)<", document)[0])
    assert wide <= seen
