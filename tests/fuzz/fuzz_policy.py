"""Any text as a policy: it loads, or it has problems with places; no exception ever escapes. What loads can be compiled and run.

python tests/fuzz/fuzz_policy.py -max_total_time=60 [corpus]
"""

from __future__ import annotations

import os
import sys
import tempfile
from typing import Any

import atheris

with atheris.instrument_imports(include=["crawlguard"]):
    from crawlguard import RequestView
    from crawlguard.loader import parse_policy
    from crawlguard.policy.compile import compile_policy
    from crawlguard.policy.problems import IDS
    from crawlguard.policy.ruleset import UNKNOWN_CLIENT
    from crawlguard.store import MemoryStore

KEYS: dict[str, tuple[str, ...]] = {
    "top": ("rules", "rules", "mode", "include", "disable", "networks", "agents", "client_ip", "data", "missing_data", "store", "log", "privacy"),
    "rules": ("id", "when", "then", "then", "mode", "reason"),
    "when": ("agent", "user_agent", "ip", "network", "asn", "country", "path", "method", "host", "header", "rate", "score", "all", "any", "not", "identity"),
    "then": ("block", "throttle", "hide", "price", "allow", "weigh", "tag", "challenge"),
    "rate": ("per", "requests", "within", "windows", "block_for"),
    "agent": ("name", "category", "operator", "ai"),
    "text": ("contains", "regex", "is", "prefix", "suffix", "missing", "name"),
    "answer": ("status", "headers", "body", "retry_after", "block_for", "amount"),
    "other": ("cidrs", "asns", "tags", "tag", "name", "file", "trusted_proxies", "header", "kind", "size", "to", "sample", "addresses", "at_least", "below", "text", "html", "json", "user_agent", "category", "operator", "token", "case", "at", "after", "open", "with", "<<", "asn"),
}  # fmt: skip
INSIDE = {
    "rules": "rules", "when": "when", "all": "when", "any": "when", "not": "when", "then": "then", "rate": "rate", "windows": "rate",
    "agent": "agent", "user_agent": "text", "path": "text", "host": "text", "header": "text",
    "block": "answer", "throttle": "answer", "hide": "answer", "price": "answer",
}  # fmt: skip
"""Which keys are likely inside which."""
VALUES = (
    "1", "0", "-1", "5", "60", "1m", "1h", "1us", "99999999999", "1.5", "1e9", "true", "false", "null", "~", "auto", "enforce", "shadow", "inactive",
    "block", "throttle", "hide", "price", "allow", "proof", "memory", "shared", "off", "logging", "keyed", "private", "unix", "x-forwarded-for",
    "a", "r1", "GPTBot", "OpenAI", "training", "search-engine", "ip", "subnet", "asn", "agent", "fingerprint", "10.0.0.0/8", "10.0.0.1/8",
    "'::/0'", "AS64500", "DE", "XX", "'/*.php$'", "'*'", "/private/", "'(a+)+$'", "'('", "'(?=a)'", "'*.example.org'", "GET", "403", "429", "200",
    "USD 0.01", "builtin:default", "builtin:none", "'local/*.yaml'", "'\u65e5'", '"\\0"', '"\\n"', "''", "x-y", "content-length", "&a b", "*a", "!!int x", "|",
)  # fmt: skip
VIEW = RequestView("GET", "/x", [(b"user-agent", b"GPTBot/1.2"), (b"host", b"example.org")], "192.0.2.1")


def pick(given: Any, words: tuple[str, ...]) -> str:
    at: int = given.ConsumeIntInRange(0, len(words) - 1)
    return words[at]


def value(given: Any, inside: str, depth: int) -> str:
    """A value in YAML's flow style, most often one that could stand there."""
    shape = given.ConsumeIntInRange(0, 7) if given.remaining_bytes() and depth < 9 else 0
    if inside in ("rules", "top", "when") and shape < 5:
        shape = 7
    if shape < 4:
        return pick(given, VALUES)
    if shape == 4 or inside == "list":
        return "[" + ", ".join(value(given, "", depth + 1) for _ in range(given.ConsumeIntInRange(0, 4))) + "]"
    return mapping(given, inside or pick(given, tuple(KEYS)), depth)


def mapping(given: Any, inside: str, depth: int) -> str:
    words = KEYS.get(inside, KEYS["other"])
    rows = []
    for _ in range(given.ConsumeIntInRange(0, 5)):
        key = pick(given, words if given.ConsumeIntInRange(0, 15) else KEYS["other"])
        one = value(given, INSIDE.get(key, ""), depth + 1)
        rows.append(f"{key}: [{one}]" if key in ("rules", "all", "any", "windows") else f"{key}: {one}")
    return "{" + ", ".join(rows) + "}"


def text_of(data: bytes) -> bytes:
    """Half of the inputs are taken as they are; half choose among the language's words, which get further in."""
    if not data or data[0] & 1:
        return data[1:]
    given = atheris.FuzzedDataProvider(data[1:])
    rules = [
        f"{{id: r{n}, when: {value(given, 'when', 1)}, then: {value(given, 'then', 1)}}}" for n in range(given.ConsumeIntInRange(0, 3))
    ]
    top = mapping(given, "top", 1) if given.ConsumeBool() else "{}"
    return f"{{version: 1, rules: [{', '.join(rules)}], {top[1:]}".encode()


def one_input(data: bytes) -> None:
    text = text_of(data)
    if b"**" in text or b"file" in text or b"include: /" in text:
        return  # would read this machine's files
    policy, problems = parse_policy(text, "fuzz.yaml")
    wrong = [p for p in problems if p.severity == "error"]
    assert (policy is None) == bool(wrong), problems
    for found in problems:
        assert found.id in IDS
        assert found.message
        assert found.advice
        assert found.file or not found.line
        assert "\n" not in str(found).partition("\n    ")[0], found
    if policy is not None:
        ruleset = compile_policy(policy)
        ruleset.explain(VIEW, ruleset.user_agent(VIEW.first(b"user-agent")), UNKNOWN_CLIENT, MemoryStore(), 10**12)


def main() -> None:
    os.chdir(tempfile.mkdtemp(prefix="crawlguard-fuzz-"))  # relative names lead nowhere
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
