"""``crawlguard robots`` as people, cron and scripts meet it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from .test_cli import as_json, run

POLICY = """
version: 1
include: [builtin:default]
robots: {sitemap: https://example.org/sitemap.xml}
rules:
  - {id: private, when: {path: /private/}, then: block}
  - {id: shop, when: {path: /shop/, host: shop.example.org}, then: hide}
  - {id: later, when: {path: /later/}, then: block, mode: shadow}
"""


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    path = tmp_path / "crawlguard.yaml"
    path.write_text(POLICY)
    return path


def test_without_a_policy_it_writes_that_of_the_bundled_one(tmp_path: Path) -> None:
    done = run("robots", cwd=tmp_path)
    assert done.returncode == 0
    assert "User-agent: GPTBot\n" in done.stdout
    assert "note: readers that keep to RFC 9309" in done.stderr


def test_the_policy_of_the_directory_is_taken(policy: Path) -> None:
    text = run("robots", cwd=policy.parent).stdout
    assert "User-agent: *\nDisallow: /private/\n" in text
    assert text.endswith("\nSitemap: https://example.org/sitemap.xml\n")
    assert "/shop/" not in text
    assert "/later/" not in text


def test_host_and_enforced(policy: Path) -> None:
    assert "Disallow: /shop/\n" in run("robots", "--host", "shop.example.org", cwd=policy.parent).stdout
    assert "Disallow: /later/\n" in run("robots", "--enforced", cwd=policy.parent).stdout


def test_a_file_is_written_whole(policy: Path) -> None:
    done = run("robots", "-o", "robots.txt", cwd=policy.parent)
    assert done.stdout == ""
    assert (policy.parent / "robots.txt").read_text() == run("robots", cwd=policy.parent).stdout
    assert sorted(p.name for p in policy.parent.iterdir()) == ["crawlguard.yaml", "robots.txt"]
    missing = run("robots", "-o", "nowhere/robots.txt", cwd=policy.parent)
    assert (missing.returncode, "nowhere/robots.txt: cannot be written" in missing.stderr) == (1, True)


def test_json(policy: Path) -> None:
    told = as_json("robots", "-p", str(policy))
    assert told["document"] == "robots"
    assert told["text"] == run("robots", "-p", str(policy)).stdout
    assert told["notes"]


@pytest.mark.parametrize(("document", "starts"), [("tdmrep", "["), ("rsl", "<?xml"), ("ai-txt", "#"), ("headers", "X-Robots-Tag")])
def test_the_other_documents(policy: Path, document: str, starts: str) -> None:
    assert run("robots", "--document", document, cwd=policy.parent).stdout.startswith(starts)


def test_what_is_there_is_merged(policy: Path) -> None:
    (policy.parent / "old.txt").write_text(
        "# Ours since 1999\nUser-agent: bingbot\nDisallow: /slow/\nCrawl-delay: 5\n\nUser-agent: GPTBot\nAllow: /\n\nSitemap: https://example.org/old.xml\n"
    )
    done = run("robots", "--merge", "old.txt", cwd=policy.parent)
    assert "# Ours since 1999\nUser-agent: bingbot\n" in done.stdout
    group = done.stdout.split("User-agent: bingbot\n")[1].split("\n\n")[0]
    assert {"Disallow: /slow/", "Disallow: /private/", "Crawl-delay: 5"} <= set(group.split("\n"))
    assert "Sitemap: https://example.org/old.xml\n" in done.stdout
    assert "Allow: / is left out for GPTBot: the policy refuses it everywhere" in done.stderr
    assert done.stdout.lower().count("user-agent: gptbot\n") == 1


def test_check_says_what_a_file_does(policy: Path) -> None:
    bad = policy.parent / "bad.txt"
    bad.write_text("User-agent: GPTBot\nDissallow: /\n\nUser-agent: *\nDisallow: /slow/\n")
    done = run("robots", "--check", "bad.txt", cwd=policy.parent)
    assert done.returncode == 1
    assert "line 2: warning misspelt-key" in done.stdout
    assert "it allows what the policy refuses" in done.stdout
    told = as_json("robots", "--check", str(bad), "-p", str(policy))
    assert (told["ok"], told["file"]) == (False, str(bad))
    assert {"everywhere", "in part", "nowhere"} <= set(told["categories"]["training"])


def test_check_of_what_the_policy_wrote_finds_nothing_wrong(policy: Path) -> None:
    run("robots", "-o", "robots.txt", cwd=policy.parent)
    told = as_json("robots", "--check", str(policy.parent / "robots.txt"), "-p", str(policy))
    assert told["conflicts"] == []
    assert [f for f in told["findings"] if f["severity"] == "warning"] == []
    assert told["ok"] is True


def test_a_file_that_asks_for_more_than_the_policy_is_no_mistake(policy: Path) -> None:
    made = run("robots", cwd=policy.parent).stdout.replace("Disallow: /private/\n", "Disallow: /private/\nDisallow: /slow/\n")
    done = subprocess.run(
        [sys.executable, "-m", "crawlguard", "robots", "--check", "-", "--json"],
        input=made, capture_output=True, text=True, cwd=policy.parent, check=False,
    )  # fmt: skip
    told = json.loads(done.stdout)
    assert done.returncode == 0
    assert {c["file"] for c in told["conflicts"]} == {"refuse"}


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("nowhere.txt", "cannot be read"),
        ("http://example.org/robots.txt", "only https is fetched"),
        ("https://127.0.0.1/robots.txt", "127.0.0.1"),
    ],
)
def test_what_cannot_be_read_is_told_without_a_traceback(tmp_path: Path, name: str, says: str) -> None:
    done = run("robots", "--check", name, cwd=tmp_path)
    assert (done.returncode, says in done.stderr, "Traceback" in done.stderr) == (1, True, False)


def test_check_of_the_policy_warns_of_documents_that_say_otherwise(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text("version: 1\ninclude: [builtin:default]\nrobots: {content_signal: {ai-train: yes}}\n")
    told = as_json("check", str(path))
    assert told["ok"] is True
    assert [w["message"] for w in told["warnings"] if w["id"] == "CG105"] == [
        "content_signal says ai-train=yes, and the rules refuse it at /"
    ]
