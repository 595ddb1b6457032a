"""Text tests and path patterns against naive models, and sets of RE2 patterns against Python's own ``re``."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawlguard.signals.match import RegexSet, check_regex, has_regex, path_test, text_test

needs_re2 = pytest.mark.skipif(not has_regex(), reason="google-re2 is not installed")


# ---- paths


def naive_path(pattern: str, path: str) -> bool:
    """RFC 9309 2.2.3, a character at a time: the set of places in the path that the pattern can have reached."""
    anchored = pattern.endswith("$")
    reached = {0}
    for char in pattern[:-1] if anchored else pattern:
        if not reached:
            return False
        if char == "*":
            reached = set(range(min(reached), len(path) + 1))
        else:
            reached = {at + 1 for at in reached if path[at : at + 1] == char}
    return len(path) in reached if anchored else bool(reached)


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("/", "/", True),
        ("/", "/anything", True),
        ("/a", "/abc", True),
        ("/a/", "/a", False),
        ("/A", "/a", False),
        ("/a$", "/a", True),
        ("/a$", "/ab", False),
        ("/a$b", "/a$bc", True),  # only at the end does it mean the end
        ("/a$$", "/a$", True),
        ("*", "/x", True),
        ("*$", "/x", True),
        ("$", "/", False),
        ("/*.php$", "/x/y.php", True),
        ("/*.php$", "/x.php5", False),
        ("/*.php", "/x.php5", True),
        ("/a*b*c", "/aXbYcZ", True),
        ("/a*b*c", "/aXcYb", False),
        ("/a*a$", "/a", False),
        ("/a*a$", "/aa", True),
        ("/a**b", "/ab", True),
        ("/*/*/x", "/1/2/x", True),
        ("*/x", "/y/x", True),
        ("/ab*ba$", "/aba", False),
    ],
)
def test_robots_patterns(pattern: str, path: str, expected: bool) -> None:
    assert naive_path(pattern, path) is expected
    assert path_test([pattern])(path) is expected


pieces = st.lists(st.sampled_from(("a", "b", "ab", "/", "*", "$", ".")), max_size=8).map("".join)
paths = st.text("ab/.$*", max_size=12).map(lambda text: "/" + text)


@given(st.lists(st.tuples(st.sampled_from("/*"), pieces).map("".join), min_size=1, max_size=4), paths)
def test_paths_match_as_the_naive_model_says(patterns: list[str], path: str) -> None:
    assert path_test(patterns)(path) is any(naive_path(p, path) for p in patterns)


@given(st.text(max_size=30), st.text(max_size=30))
def test_any_text_is_a_path_and_a_pattern(pattern: str, path: str) -> None:
    assert path_test([pattern])(path) is naive_path(pattern, path)


# ---- texts

NAIVE: dict[str, Callable[[str, str], bool]] = {
    "is": lambda text, value: text == value,
    "prefix": lambda text, value: text[: len(value)] == value,
    "suffix": lambda text, value: len(value) <= len(text) and text[len(text) - len(value) :] == value,
    "contains": lambda text, value: any(text[at : at + len(value)] == value for at in range(len(text) + 1)),
}
texts = st.text("abAB/\xe4\xc4", max_size=8)


@pytest.mark.parametrize("kind", sorted(NAIVE))
@given(values=st.lists(st.text("abAB/\xe4\xc4", min_size=1, max_size=3), min_size=1, max_size=4), text=texts, fold=st.booleans())
def test_text_tests_agree_with_the_naive_model(kind: str, values: list[str], text: str, fold: bool) -> None:
    shown = text.lower() if fold else text
    expected = any(NAIVE[kind](shown, v.lower() if fold else v) for v in values)
    assert text_test(kind, values, fold=fold)(text) is expected


# ---- regular expressions

# What RE2 and Python's re mean alike.
atoms = st.sampled_from(("a", "b", "[ab]", "[^a]", "(?:a|bb)", ".", "^a", "b$", r"\bab\b", "a{2,3}", "b?", "(?i:AB)"))
expressions = st.lists(atoms, min_size=1, max_size=4).map("".join)


@needs_re2
@given(st.lists(expressions, min_size=1, max_size=5), st.text("abAB ", max_size=12))
def test_a_set_finds_what_each_expression_finds(patterns: list[str], text: str) -> None:
    found = RegexSet(patterns).find(text.encode())
    assert sorted(found) == [n for n, p in enumerate(patterns) if re.search(p, text)]


@needs_re2
@given(st.lists(expressions, min_size=1, max_size=3), st.text(max_size=20), st.booleans())
def test_a_regex_keeps_its_case_and_takes_any_text(patterns: list[str], text: str, fold: bool) -> None:
    text_test("regex", patterns, fold=fold)(text)  # lone surrogates too
    assert text_test("regex", ["A+b"], fold=fold)(f"{text}AAb")
    assert not text_test("regex", ["A+b"], fold=fold)("aab")


@needs_re2
@pytest.mark.parametrize("pattern", ["(", "a**", r"(?=a)", r"(a)\1", "[z-a]", "a{2000}", "\\", "\\8", r"(?<!a)b"])
def test_what_re2_refuses_is_said_in_its_words(pattern: str) -> None:
    complaint = check_regex(pattern)
    assert complaint
    assert "b'" not in complaint
    with pytest.raises(ValueError) as told:
        RegexSet(["fine", pattern])
    assert str(told.value)


@needs_re2
@pytest.mark.parametrize("pattern", ["a", "", r"^Mozilla/5\.0 \(compatible", r"\bBot\b", "(?i)bot", "日本"])
def test_what_re2_takes(pattern: str) -> None:
    assert check_regex(pattern) is None
    assert RegexSet(["never-there", pattern]).find(f"{pattern} Mozilla/5.0 (compatible Bot".encode())[-1:] in ([1], [])


@needs_re2
def test_a_thousand_expressions_are_all_asked() -> None:
    patterns = RegexSet([rf"agent{n}(/[0-9.]+)?\b.*end" for n in range(1000)])
    for n in (0, 1, 499, 999):
        assert patterns.find(f"x agent{n}/1.2 and the end".encode()) == [n]
    assert patterns.find(b"agent1000 end") == []
