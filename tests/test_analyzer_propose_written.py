"""Rules as text: whatever a log holds, a rule means what was meant, and a comment stays one."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from crawlguard_analyzer.propose.written import comment, quoted, read_back, rule_text, shown
from hypothesis import example, given, settings
from hypothesis import strategies as st

HOSTILE = (
    '"\n  - id: evil\n    then: allow\n#', "x\r\n# expires: 2000-01-01", "a: b # c", "'; drop", "\x00\x07\x1b[31m", "\u202etxt.exe", "\u2028- id: x",
    "\x85rules: []", "\ufeff", "{{a}}", "!!python/object", "&a *a", "%YAML 1.2", "---\n...", "\\x41\\", "\U0001f600", " lead and trail ", "~", "null",
)  # fmt: skip
texts = st.one_of(st.sampled_from(HOSTILE), st.text(min_size=1, max_size=40)).filter(
    lambda t: bool(t.strip()) and t.isprintable() is not None
)


@settings(deadline=None)
@given(st.text(max_size=60))
@example("".join(map(chr, range(0x100))))
def test_a_quoted_text_is_ascii_and_reads_back_as_itself(text: str) -> None:
    written = quoted(text)
    assert written.isascii()
    assert written.isprintable()
    if not any(0xD800 <= ord(c) < 0xE000 for c in text):
        assert yaml.safe_load(written) == text


@settings(deadline=None)
@given(texts, texts)
def test_a_rule_means_what_was_meant(ua: str, note: str) -> None:
    when: dict[str, Any] = {"ip": ["203.0.113.0/24", "198.51.100.7"], "user_agent": {"is": ua}}
    text = rule_text("proposed-x", when, "block", "a reason", [f"e.g. {note}", note])
    rule = read_back(text, when)
    assert rule is not None
    assert (rule.id, rule.mode, rule.then.action) == ("proposed-x", "shadow", "block")
    assert rule.reason == "a reason"
    assert all(line.startswith("  # ") or line == "  #" for line in text.split("\n")[: text.count("\n  #") + 1])


@settings(deadline=None)
@given(st.lists(st.one_of(st.sampled_from(HOSTILE), st.text()), max_size=5))
def test_comments_are_lines_of_printable_ascii(lines: list[str]) -> None:
    for line in comment([f"note: {one}" for one in lines]):
        assert line.startswith("  #")
        assert line.isascii()
        assert line.isprintable()
        assert not line.startswith(("  # expires", "  # proposed"))  # what a log says is never taken for a date of ours


def test_what_was_not_meant_is_refused() -> None:
    when: dict[str, Any] = {"user_agent": {"is": "a"}}
    text = rule_text("proposed-x", when, "block", "r", [])
    assert read_back(text, {"user_agent": {"is": "b"}}) is None
    assert read_back(text, {"user_agent": {"contains": "a"}}) is None
    assert read_back(text.replace("shadow", "enforce"), when) is None
    assert read_back(text + text.replace("proposed-x", "other"), when) is None
    assert read_back("  - id: [", when) is None


WHENS: list[dict[str, Any]] = [
    {"agent": {"name": ["DotBot"]}},
    {"agent": {"category": ["seo"]}},
    {"user_agent": {"missing": True}, "network": {"tag": ["cloud", "hosting"]}},
    {"user_agent": {"contains": ["Mozlila"]}},
    {"ip": [f"10.{n}.0.0/16" for n in range(12)]},
    {"ip": ["2001:db8::/48"], "not": {"user_agent": {"is": "x"}}},
    {"rate": {"per": "ip", "windows": [{"requests": 70, "within": "1m"}, {"requests": 400, "within": "1h"}]}, "not": {"any": [{"path": {"suffix": [f".{n}x" for n in range(30)]}}, {"network": {"tag": ["monitor"]}}]}},
    {"rate": {"per": "agent", "requests": 6, "within": "1m"}, "agent": {"name": ["PetalBot"]}},
]  # fmt: skip


@pytest.mark.parametrize("when", WHENS, ids=str)
def test_every_condition_that_is_proposed_reads_back(when: dict[str, Any]) -> None:
    assert read_back(rule_text("proposed-x", when, "throttle", "r", ["c"]), when) is not None


def test_an_asn_is_read_without_its_database() -> None:
    when: dict[str, Any] = {"asn": [64496, 64497]}
    text = rule_text("proposed-x", when, "block", "r", [])
    assert read_back(text, when) is None
    assert read_back(text, when, asn=True) is not None


def test_a_long_text_is_cut_where_people_read_it() -> None:
    assert shown("x" * 500) == "x" * 160 + "..."
    assert shown("\x1b[31m") == "\\x1b[31m"
