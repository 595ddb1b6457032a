"""Sets of paths and the lines that say them, against every path of a small alphabet: nothing is believed that can be counted out."""

from __future__ import annotations

import itertools
import re
import time
from urllib.parse import unquote

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from crawlguard.export.paths import EVERYTHING, MOST, UNSURE, Glob, Line, decide, lines_for, overlap

PATHS = ["/" + "".join(letters) for length in range(6) for letters in itertools.product("abc", repeat=length)]
"""Patterns are spelled from "a" and "b": "c" is any other letter. Long enough for two patterns of four letters side by side."""

patterns = st.tuples(
    st.sampled_from(["/", "/", "*", "/*"]), st.lists(st.sampled_from("aabb*"), max_size=3).map("".join), st.sampled_from(["", "$"])
).map("".join)
globs = patterns.map(Glob.parse)


def naive(pattern: str, path: str) -> bool:
    """RFC 9309 2.2.3 by a regular expression."""
    end = r"\Z" if pattern.endswith("$") else ""
    return re.match(".*".join(map(re.escape, pattern.removesuffix("$").split("*"))) + end, path, re.DOTALL) is not None


def longest(lines: tuple[Line, ...], path: str) -> bool:
    """RFC 9309 2.2.2 on what is written: the longest pattern, an allow among equals."""
    found = [(len(line.pattern), line.allow) for line in lines if naive(line.pattern, path)]
    return max(found, default=(0, True))[1]


@given(patterns)
@settings(max_examples=300)
def test_a_glob_is_its_pattern(pattern: str) -> None:
    glob = Glob.parse(pattern)
    assert [glob.matches(p) for p in PATHS] == [naive(pattern, p) for p in PATHS]
    assert [naive(glob.line(), p) for p in PATHS] == [naive(pattern, p) for p in PATHS]


@given(globs, globs)
@settings(max_examples=400, deadline=None)
def test_an_overlap_is_what_lies_in_both(one: Glob, other: Glob) -> None:
    both = overlap(one, other)
    for path in PATHS:
        assert any(g.matches(path) for g in both) == (one.matches(path) and other.matches(path)), path


@given(globs, globs)
@settings(max_examples=400, deadline=None)
def test_what_covers_holds_everything_and_nothing_else_does(one: Glob, other: Glob) -> None:
    assert one.covers(other) == all(one.matches(p) for p in PATHS if other.matches(p))


rules = st.lists(st.tuples(globs, st.booleans()), min_size=1, max_size=4)


@given(rules, st.booleans())
@settings(max_examples=600, deadline=None)
@example([(Glob.parse("/a"), True), (Glob.parse("/*a$"), False)], True)  # "/a$" is too short to say it
@example([(Glob.parse("/aa"), False), (Glob.parse("/*a$"), True)], False)
@example([(Glob.parse("/b*a$"), False), (Glob.parse("/*ba"), True)], False)
def test_lines_say_what_the_first_rule_that_holds_says(listed: list[tuple[Glob, bool]], otherwise: bool) -> None:
    def verdict(path: str) -> bool:
        return next((allow for glob, allow in listed if glob.matches(path)), otherwise)

    lines, doubts = lines_for([glob for glob, _ in listed], verdict)
    assert UNSURE not in doubts
    wrong = [p for p in PATHS if longest(lines, p) != verdict(p) or longest(lines, p + "?") != verdict(p)]
    assert not wrong or doubts, (wrong[:3], lines)
    assert all("..." not in path for path in doubts)  # any pattern but that of one path can be made longer
    assert [len(line.pattern) for line in lines] == sorted((len(line.pattern) for line in lines), reverse=True)
    written = [line.pattern for line in lines]
    assert len(set(written)) == len(written)


def test_what_cannot_be_said_is_told() -> None:
    """Nothing is longer than the pattern of one path, but a wildcard that stands for nothing."""
    one, all_with = Glob.parse("/a$"), Glob.parse("/*a")
    lines, doubts = lines_for([one, all_with], lambda path: not one.matches(path) and all_with.matches(path))
    assert doubts == ("/a",)
    assert longest(lines, "/ba")
    assert not longest(lines, "/b")


def test_no_line_is_idle() -> None:
    """A line that changes no verdict is not written."""
    listed = [Glob.parse(p) for p in ("/a", "/a/b", "/a/b/c$", "/x")]
    lines, doubts = lines_for(listed, lambda path: not (path.startswith("/a") and not path.startswith("/a/b")))
    assert [(line.allow, line.pattern) for line in lines] == [(True, "/a/b"), (False, "/a")]
    assert not doubts


def test_everything_is_one_stroke() -> None:
    for pattern in ("/", "*", "/*", "*$"):
        lines, doubts = lines_for([Glob.parse(pattern)], lambda path: False)
        assert [(line.allow, line.pattern) for line in lines] == [(False, "/")]
        assert not doubts
    assert EVERYTHING.line() == "/"
    assert lines_for([], lambda path: True) == ((), ())


@given(st.text(st.characters(exclude_characters="\uffff", exclude_categories=["Cs"]), min_size=1, max_size=8), st.booleans())
@settings(max_examples=300)
@example("$", False)
@example("a$", False)
@example("\n Allow: /", False)
@example("*%2A", False)
def test_any_text_is_written_in_the_characters_of_a_url(text: str, anchored: bool) -> None:
    line = Glob(("/" + text,), anchored).line()
    assert re.fullmatch(r"/(?:[A-Za-z0-9~/!$&'()+,;=:@._-]|%[0-9A-F]{2})*[*$]?", line)
    assert line.endswith("$") == anchored
    body = line.removesuffix("$") if anchored else line.removesuffix("*") if text.endswith("$") else line
    assert unquote(body) == "/" + text
    assert Glob.parse(line).matches("/" + text)


def test_half_a_surrogate_pair_does_no_harm() -> None:
    assert Glob(("/\ud800",)).line() == "/%3F"


@given(st.sampled_from(["a", "x/", "é"]))
def test_what_no_path_begins_with_is_left_out(text: str) -> None:
    lines, doubts = lines_for([Glob((text,)), Glob((text,), True)], lambda path: True)
    assert (lines, doubts) == ((), ())


def test_readers_measure_an_escape_by_one_or_three() -> None:
    """robotspy counts letters, RFC 9309 octets, Protego more escapes still; the line that has to win wins by each measure."""
    wide, narrow = Glob.parse("/é*"), Glob.parse("/*abcd")
    lines, doubts = lines_for([wide, narrow], lambda path: narrow.matches(path) or not wide.matches(path))
    assert not doubts
    both = [line for line in lines if line.allow]
    assert all(len(unquote(line.pattern)) >= len(unquote("/%C3%A9")) for line in both)
    assert decide(lines, "/éxabcd")
    assert not decide(lines, "/éx")


def test_many_plain_paths_are_no_trouble() -> None:
    """Paths that do not overlap cost nothing; one suffix beside them overlaps each once."""
    count = MOST * 2
    listed = [Glob((f"/section-{n}/",)) for n in range(count)]
    suffix = Glob.parse("/*.css$")
    start = time.process_time()
    lines, doubts = lines_for([*listed, suffix], lambda path: suffix.matches(path) or not any(g.matches(path) for g in listed))
    assert not doubts
    assert len(lines) >= count
    assert time.process_time() - start < 20
    assert not decide(lines, "/section-7/x")
    assert decide(lines, "/section-7/x.css")
    assert decide(lines, "/section-x")


@pytest.mark.parametrize("stars", [6, 12])
def test_wildcards_without_end_are_cut_off_and_told(stars: int) -> None:
    listed = [Glob.parse("/*" + "*".join(letter * 2 for letter in "abcdefghijklm"[n : n + stars])) for n in range(8)]
    start = time.process_time()
    lines, doubts = lines_for(listed, lambda path: sum(g.matches(path) for g in listed) % 2 == 0)
    assert time.process_time() - start < 20
    assert UNSURE in doubts
    assert lines


@given(rules, st.booleans())
@settings(max_examples=100, deadline=None)
def test_the_own_reading_agrees_with_what_is_written(listed: list[tuple[Glob, bool]], otherwise: bool) -> None:
    lines, _ = lines_for([g for g, _ in listed], lambda path: next((allow for g, allow in listed if g.matches(path)), otherwise))
    assume(lines)
    for path in PATHS[:200]:
        assert decide(lines, path) == longest(lines, path)
