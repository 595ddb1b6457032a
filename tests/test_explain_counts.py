"""What ``crawlguard explain`` says a running site has counted of a client: against each limit, from both kinds of shared store."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from crawlguard import Guard

from .policy_corpus import view
from .test_cli import as_json, run
from .valkey_server import serving

RULES = [
    {"id": "burst", "when": {"rate": {"per": "ip", "windows": [{"requests": 2000, "within": "10h"}, {"requests": 2, "within": "1s"}]}}, "then": "throttle"},
    {"id": "pages", "when": {"path": "/a", "rate": {"per": ["ip", "path"], "documents": 100, "within": "10h"}}, "then": "throttle"},
    {"id": "crawl", "when": {"rate": {"per": "subnet", "distinct_paths": 50, "within": "10h", "block_for": ["1h", "1d"]}}, "then": "block"},
    {"id": "probes", "when": {"rate": {"per": "ip", "misses": 10, "within": "10h"}}, "then": "block"},
    {"id": "elsewhere", "when": {"path": "/b", "rate": {"per": "ip", "requests": 9, "within": "10h"}}, "then": "throttle"},
]  # fmt: skip
WANTED = [
    ("burst", ["ip"], "requests", 2, 2000, 36000.0),
    ("pages", ["ip", "path"], "documents", 2, 100, 36000.0),
    ("crawl", ["subnet"], "distinct_paths", 2, 50, 36000.0),
    ("probes", ["ip"], "misses", 1, 10, 36000.0),
]


@pytest.mark.parametrize("kind", ["shared", "valkey"])
def test_explain_says_how_much_of_each_limit_is_used(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRAWLGUARD_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    with serving(tmp_path / "server") as server:
        store = "shared" if kind == "shared" else {"url": server.url, "site": "counts"}
        (tmp_path / "crawlguard.yaml").write_text(json.dumps({"version": 1, "store": store, "rules": RULES}))
        guard = Guard("crawlguard.yaml", watch=False)
        for path, status in (("/a/1", 200), ("/a/2", 404)):
            one = view(path)
            assert guard.decide(one).allowed
            guard.responded(one, status, 10)
        if kind == "valkey":
            guard.store.flush()  # type: ignore[attr-defined]
        for _ in range(2):  # looking counts nothing
            told = as_json("explain", "--ip", "203.0.113.7", "--path", "/a/3", cwd=tmp_path)["counts"]
            longest = [one for one in told if one["within"] > 1]
            assert [(c["rule"], c["per"], c["counts"], c["used"], c["limit"], c["within"]) for c in longest] == WANTED
        shown = run("explain", "--ip", "203.0.113.7", "--path", "/a/3", cwd=tmp_path).stdout
        assert "2 of 100 documents" in shown
        other = as_json("explain", "--ip", "198.51.100.7", "--path", "/a/3", cwd=tmp_path)["counts"]
        assert {one["used"] for one in other} == {0}
        guard.store.close()


def test_without_a_running_site_nothing_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRAWLGUARD_STATE_DIR", str(tmp_path / "state"))
    (tmp_path / "crawlguard.yaml").write_text(json.dumps({"version": 1, "rules": RULES}))
    assert as_json("explain", "--ip", "203.0.113.7", cwd=tmp_path)["counts"] == []
