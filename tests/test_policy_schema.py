"""The policy language as others see it: the catalogue in its compiled form, and the JSON Schema that editors use."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from crawlguard import catalogue
from crawlguard.errors import PolicyError, Problem
from crawlguard.loader import read_policy
from crawlguard.policy.schema import json_schema
from crawlguard.yamlio import read_document

from .policy_corpus import BAD, GOOD, expected_problems, plain, text_of

# ---- the catalogue


def test_the_compiled_catalogue_is_what_its_files_say(tmp_path: Path) -> None:
    catalogue.compile_catalogue(tmp_path)
    blank = {"samples": (), "near_misses": (), "source": "", "date": ""}
    assert [a._asdict() for a in catalogue.agents()] == [{**a._asdict(), **blank} for a in catalogue.read_agents()]
    assert json.loads((tmp_path / "agents.json").read_bytes())
    for network in catalogue.read_networks():
        compiled = catalogue.networks()[network.name]
        assert (compiled.cidrs, compiled.asns, compiled.tags) == (network.cidrs, network.asns, network.tags)


def test_the_catalogue_reads_back_from_its_compiled_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from_files = (catalogue.agents(), catalogue.networks())
    catalogue.compile_catalogue(tmp_path)
    monkeypatch.setattr(catalogue, "rules_dir", lambda: tmp_path)
    agents, networks = inspect.unwrap(catalogue.agents)(), inspect.unwrap(catalogue.networks)()
    assert (agents, networks) == from_files


@pytest.mark.parametrize("name", catalogue.policy_names())
def test_a_bundled_policy_reads_back_from_its_compiled_form(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    problems: list[Problem] = []
    from_file = read_document(catalogue.rules_dir() / "policies" / f"{name}.yaml", f"builtin:{name}", problems.append)
    catalogue.compile_catalogue(tmp_path)
    monkeypatch.setattr(catalogue, "rules_dir", lambda: tmp_path)
    assert catalogue.bundled_policy(name, f"builtin:{name}") == from_file
    assert not problems


def test_a_bundled_policy_that_is_malformed_says_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "default.yaml").write_text("version: 1\nrules: [\n")
    monkeypatch.setattr(catalogue, "rules_dir", lambda: tmp_path)
    with pytest.raises(PolicyError) as raised:
        read_policy("builtin:default")
    assert [(p.id, p.file, p.line) for p in raised.value.problems] == [("CG002", "rules/policies/default.yaml", 3)]


# ---- the JSON Schema

SCHEMA = json_schema()
STRUCTURE = {"CG004", "CG005", "CG006", "CG007", "CG009", "CG014", "CG022", "CG030", "CG034"}
"""Problems that a schema can see: the others need names, files or arithmetic."""


def test_the_schema_is_a_valid_one_and_plain_enough_for_editors() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert json.loads(json.dumps(SCHEMA)) == SCHEMA
    for pattern in re.findall(r'"pattern": "((?:[^"\\]|\\.)*)"', json.dumps(SCHEMA)):
        assert "(?" not in pattern, f"{pattern}: not an expression of ECMA 262"


@pytest.mark.parametrize("path", GOOD, ids=lambda p: p.stem)
def test_the_schema_takes_every_good_policy(path: Path) -> None:
    assert [f"{e.json_path}: {e.message[:200]}" for e in Draft202012Validator(SCHEMA).iter_errors(plain(path))] == []


def _structural() -> list[Path]:
    chosen = []
    for path in BAD:
        own = {code for file, code, _, _ in expected_problems(path) if not file}
        if own & STRUCTURE and own.isdisjoint(("CG002", "CG003", "CG035")) and path.stem != "network-without-addresses":
            chosen.append(path)
    return chosen


@pytest.mark.parametrize("path", _structural(), ids=lambda p: p.stem)
def test_the_schema_refuses_every_structurally_bad_policy_in_each_of_its_rules(path: Path) -> None:
    try:
        data = plain(path)
    except yaml.constructor.ConstructorError:
        assert "key" in text_of(path).splitlines()[1]  # a key that is a list is no data at all
        return
    validator = Draft202012Validator(SCHEMA)
    assert not validator.is_valid(data)
    lines = {line for file, code, line, _ in expected_problems(path) if code in STRUCTURE and not file}
    for number, text in enumerate(text_of(path).splitlines(), 1):
        if number in lines and text.startswith("  - {id:"):
            assert not validator.is_valid({"version": 1, "rules": plain(text)}), text
