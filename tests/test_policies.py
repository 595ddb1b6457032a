"""The policy corpora. Each good policy loads and decides as its comments say; each bad one gives the problems that it names."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from crawlguard import Guard
from crawlguard.errors import PolicyError, Problem
from crawlguard.loader import load_policy, read_policy
from crawlguard.policy.problems import IDS
from crawlguard.policy.schema import json_schema

from .policy_corpus import BAD, GOOD, POLICIES, Clock, expectations, expected_problems, plain, text_of, view, warned


def name(path: Path) -> str:
    return path.stem


@pytest.mark.parametrize("path", GOOD, ids=name)
def test_a_good_policy_loads_and_decides_as_it_says(path: Path) -> None:
    assert text_of(path).startswith(("# ", "\ufeff# ")), "the first line says what the policy shows"
    clock, asked = Clock(), expectations(path)
    assert asked, "a good policy says what it expects"
    guard = Guard(path, clock=clock, watch=False, store="memory", log="off")
    for one in asked:
        request = dict(one.request)
        clock.at(request.pop("at", 0))
        times = request.pop("times", 1)
        decision = [guard.decide(view(**request)) for _ in range(times)][-1]
        assert one.said(decision) == one.wanted, f"{path.name}:{one.line}"
    assert guard.counters.errors == 0


@pytest.mark.parametrize("path", GOOD, ids=name)
def test_a_good_policy_has_only_the_warnings_that_it_names(path: Path) -> None:
    policy, problems = read_policy(path)
    assert policy is not None
    assert sorted(p.id for p in problems) == warned(path)
    assert all(p.severity == "warning" and p.advice for p in problems)
    assert policy.warnings == tuple(problems)


def test_the_corpora_are_large_enough() -> None:
    assert len(GOOD) >= 25
    assert len(BAD) >= 60


# ---- the good ones use the whole language


def below(at: str, key: str) -> str:
    """The place below a key. Conditions are the same wherever they nest."""
    return "when" if key in ("when", "all", "any", "not") else f"{at}.{key}"


def keys_and_words(schema: dict[str, Any], at: str = "", seen: tuple[str, ...] = ()) -> Iterator[tuple[str, str]]:
    """Every key and every allowed word of a schema, each with the place where it stands."""
    if "$ref" in schema:
        if schema["$ref"] not in seen:
            yield from keys_and_words(SCHEMA["$defs"]["when"], "when", (*seen, schema["$ref"]))
        return
    for part in schema.get("anyOf", ()):
        yield from keys_and_words(part, at, seen)
    for word in schema.get("enum", ()):
        yield at, str(word)
    if "items" in schema:
        yield from keys_and_words(schema["items"], at, seen)
    if isinstance(schema.get("additionalProperties"), dict):
        yield from keys_and_words(schema["additionalProperties"], f"{at}.*", seen)
    for key, inner in schema.get("properties", {}).items():
        yield at, key
        yield from keys_and_words(inner, below(at, key), seen)


def used_in(schema: dict[str, Any], data: Any, at: str = "") -> Iterator[tuple[str, str]]:
    """The keys and words of a schema that some data use."""
    if "$ref" in schema:
        schema, at = SCHEMA["$defs"]["when"], "when"
    for part in schema.get("anyOf", ()):
        yield from used_in(part, data, at)
    if isinstance(data, list) and "items" in schema:
        for item in data:
            yield from used_in(schema["items"], item, at)
    elif isinstance(data, dict):
        for key, value in data.items():
            if key in schema.get("properties", {}):
                yield at, key
                yield from used_in(schema["properties"][key], value, below(at, key))
            elif isinstance(schema.get("additionalProperties"), dict):
                yield from used_in(schema["additionalProperties"], value, f"{at}.*")
    elif data in schema.get("enum", ()):
        yield at, str(data)


SCHEMA = json_schema()


def test_the_good_policies_use_every_key_and_word_of_the_language() -> None:
    known = set(keys_and_words(SCHEMA))
    known = {(at, word) for at, word in known if at != ".agents.category"}  # the same words as in when.agent.category
    used = {found for path in GOOD for found in used_in(SCHEMA, plain(path))}
    assert {("", "version"), ("when", "country"), (".rules.then", "tag"), (".privacy.addresses", "keyed")} <= known
    assert sorted(known - used) == []


# ---- the bad ones


@cache
def problems_of(path: Path) -> tuple[Problem, ...]:
    """The problems of a policy that the extras make readable; without re2 where its first line says so."""
    policy, problems = read_policy(path)
    assert policy is None, "a bad policy must not load"
    return tuple(problems)


def found_in(path: Path, problems: tuple[Problem, ...]) -> list[tuple[str, str, int, int]]:
    """Problems as the first line of a bad policy writes them."""
    rows = [("" if p.file == str(path) else os.path.relpath(p.file, path.parent), p.id, p.line, p.column) for p in problems]
    return sorted(rows)


@pytest.mark.parametrize("path", BAD, ids=name)
def test_a_bad_policy_gives_exactly_the_problems_that_it_names(path: Path) -> None:
    expected = expected_problems(path)
    assert expected, "the first line names the problems"
    if "without re2" in text_of(path).splitlines()[0]:
        assert without_re2(path) == [code for _, code, _, _ in expected]
        return
    problems = problems_of(path)
    found = found_in(path, problems)
    if "anywhere" in text_of(path).splitlines()[0]:  # where a bound is hit is not the policy's business
        found, expected = [(file, code, 0, 0) for file, code, _, _ in found], [(file, code, 0, 0) for file, code, _, _ in expected]
    assert found == expected
    for p in problems:
        assert p.id in IDS
        assert len(p.message) > 10
        assert len(p.advice) > 10
        assert "\n" not in p.message
        assert p.severity == ("warning" if p.id >= "CG100" else "error")


def without_re2(path: Path) -> list[str]:
    """The ids that a process without RE2 gives."""
    code = "import sys; sys.modules['re2'] = None\nfrom crawlguard.loader import read_policy\nprint(*[p.id for p in read_policy(sys.argv[1])[1]])"
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    return done.stdout.split()


@pytest.mark.parametrize("path", BAD, ids=name)
def test_loading_a_bad_policy_raises_all_its_errors_at_once(path: Path) -> None:
    if "without re2" in text_of(path).splitlines()[0]:
        return
    with pytest.raises(PolicyError) as raised:
        load_policy(path)
    errors = [p for p in problems_of(path) if p.severity == "error"]
    assert list(raised.value.problems) == errors
    for p in errors:
        assert f"{p.file}:{p.line}:{p.column}: error {p.id}: " in str(raised.value) or not p.line


def test_the_bad_policies_cover_every_id() -> None:
    named = Counter(code for path in BAD for _, code, _, _ in expected_problems(path))
    warned_of = Counter(code for path in GOOD for code in warned(path))
    by_the_command = {"CG104", "CG105"}  # of lists and documents: test_update.py, test_robots_cli.py
    assert set(IDS) - set(named) - set(warned_of) == by_the_command
    assert set(named) <= set(IDS)


def test_no_file_of_the_corpora_is_left_out() -> None:
    listed = {*GOOD, *BAD}
    for path in POLICIES.rglob("*"):
        if path.is_file():
            assert path in listed or path.parent.name == "parts", f"{path} is in neither corpus"
