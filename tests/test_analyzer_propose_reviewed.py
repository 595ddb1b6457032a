"""The file that proposals are appended to: what people wrote in it stays, and the live policy is never touched."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from crawlguard_analyzer.propose import Proposal, propose
from crawlguard_analyzer.propose.reviewed import HEAD, MARK, Change, change, diff, include_line, read_reviewed, takes_part, write

from crawlguard.errors import DataError
from crawlguard.loader import load_policy
from crawlguard.policy.model import Policy

from .analyzer_propose_sample import SCRIPT, client, people, table
from .test_analyzer_propose import DEFAULT

TODAY = date(2026, 10, 1)


def made() -> tuple[Proposal, ...]:
    rows = [*people(150), *(client(f"198.51.100.{n}", "crawler", 40) for n in range(1, 30)), client("203.0.113.9", "crawler", 300, SCRIPT)]
    return propose(table(rows), DEFAULT, today=TODAY).proposals


PROPOSALS = made()
IDS = [one.id for one in PROPOSALS]


def applied(path: Path, proposals: tuple[Proposal, ...] = PROPOSALS, prune: tuple[str, ...] = ()) -> Change:
    done = change(read_reviewed(str(path), DEFAULT), proposals, prune)
    write(done)
    return done


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "crawlguard-proposed.yaml"


def rules(path: Path) -> list[str]:
    return [rule.id for rule in load_policy(path).rules]


def test_a_new_file_is_a_policy_in_shadow_mode(path: Path) -> None:
    assert len(IDS) == 2
    done = applied(path)
    assert (list(done.added), done.skipped, done.pruned) == (IDS, (), ())
    assert path.read_text().startswith(MARK)
    assert rules(path) == IDS
    assert {rule.mode for rule in load_policy(path).rules} == {"shadow"}
    assert path.stat().st_mode & 0o777 == 0o644 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_what_a_person_wrote_stays(path: Path) -> None:
    applied(path, PROPOSALS[:1])
    text = path.read_text().replace("mode: shadow", "mode: enforce  # since Monday")
    text = text.replace("rules:\n", "rules:\n  # mine\n  - {id: mine, when: {path: /x}, then: block}  # keep\n")
    path.write_text(text)
    path.chmod(0o600)
    done = applied(path)
    assert path.read_text() == text + "\n" + PROPOSALS[1].yaml
    assert (list(done.added), list(done.skipped)) == (IDS[1:], IDS[:1])
    assert rules(path) == ["mine", *IDS]
    assert path.stat().st_mode & 0o777 == 0o600
    again = change(read_reviewed(str(path), DEFAULT), PROPOSALS)
    assert (again.added, again.text) == ((), path.read_text())


def test_windows_line_ends_and_a_missing_last_one(path: Path) -> None:
    applied(path, PROPOSALS[:1])
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n").rstrip())
    applied(path)
    assert rules(path) == IDS
    assert path.read_bytes().count(b"\n") == path.read_bytes().count(b"\r\n")


def test_expired_rules_are_found_and_taken_out_with_their_comments(path: Path) -> None:
    applied(path)
    text = path.read_text()
    mine = "\n  # a note of mine\n  - id: mine\n    when: {path: /x}\n    then: block\n"
    first, second = text.index(PROPOSALS[0].yaml), text.index(PROPOSALS[1].yaml)
    path.write_text(text[:second] + mine.lstrip("\n") + "\n" + text[second:])
    before = read_reviewed(str(path), DEFAULT)
    assert before.expires == {one.id: one.expires for one in PROPOSALS}
    assert before.expired(PROPOSALS[0].expires) == []
    late = max(one.expires for one in PROPOSALS)
    assert before.expired(late.replace(year=2030)) == IDS
    done = applied(path, (), (IDS[0], "mine"))
    assert done.pruned == (IDS[0],), "what was not proposed is never taken out"
    assert path.read_text() == text[:first] + mine.lstrip("\n") + "\n" + text[second:]
    assert rules(path) == ["mine", IDS[1]]


def test_all_may_go_and_come_again(path: Path) -> None:
    applied(path)
    done = applied(path, (), tuple(IDS))
    assert path.read_text().rstrip("\n") == HEAD.rstrip("\n").removesuffix("rules:") + "rules: []"
    assert list(done.pruned) == IDS
    applied(path)
    assert rules(path) == IDS
    renewed = replace(PROPOSALS[0], yaml=PROPOSALS[0].yaml.replace("# expires: 20", "# expires: 21"))
    done = applied(path, (renewed,), (IDS[0],))
    assert (list(done.added), list(done.pruned)) == (IDS[:1], IDS[:1])
    assert rules(path) == [IDS[1], IDS[0]]


def test_the_live_policy_and_other_files_are_refused(tmp_path: Path, path: Path) -> None:
    live = tmp_path / "site.yaml"
    live.write_text(f"{MARK}\nversion: 1\ninclude: [builtin:default, other.yaml]\n")
    (tmp_path / "other.yaml").write_text("version: 1\nrules: []\n")
    policy = load_policy(live)
    (tmp_path / "link.yaml").symlink_to(live)
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe")
    (tmp_path / "directory.yaml").mkdir()
    for name, words in {
        "site.yaml": "live policy",
        "link.yaml": "live policy",
        "crawlguard.yaml": "live policy",
        "other.yaml": "not made by propose",
        "bytes.yaml": "cannot be read",
        "directory.yaml": "cannot be read",
    }.items():
        with pytest.raises(DataError, match=words):
            read_reviewed(str(tmp_path / name), policy)
    assert live.read_text().startswith(MARK)


def test_a_broken_file_is_named_with_its_line(path: Path) -> None:
    applied(path)
    path.write_text(path.read_text().replace("then: block", "then: blok", 1))
    with pytest.raises(DataError, match=r"crawlguard-proposed\.yaml:[0-9]+: .*mend it first"):
        read_reviewed(str(path), DEFAULT)


def test_rules_that_are_not_the_last_key_are_not_appended_to(path: Path) -> None:
    applied(path, PROPOSALS[:1])
    text = path.read_text() + "networks: {office: [203.0.113.0/24]}\n"
    path.write_text(text)
    with pytest.raises(DataError, match=r"mend it first|cannot be added to safely"):
        applied(path)
    assert path.read_text() == text


def test_an_edit_in_between_wins(path: Path) -> None:
    applied(path, PROPOSALS[:1])
    planned = change(read_reviewed(str(path), DEFAULT), PROPOSALS)
    path.write_text(path.read_text() + "# edited\n")
    with pytest.raises(DataError, match="was edited"):
        write(planned)
    assert path.read_text().endswith("# edited\n")
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_an_asn_is_kept_without_its_database(path: Path) -> None:
    applied(path, PROPOSALS[:1])
    asn = "  - id: by-asn\n    mode: shadow\n    when: {asn: [64496]}\n    then: block\n"
    path.write_text(path.read_text() + asn)
    applied(path)
    assert [rule.id for rule in read_reviewed(str(path), DEFAULT).rules] == [IDS[0], "by-asn", IDS[1]]


def test_the_diff_is_readable_and_harmless(path: Path) -> None:
    applied(path, PROPOSALS[:1])
    path.write_text(path.read_text() + "  # \u202edet\n")
    shown = diff(change(read_reviewed(str(path), DEFAULT), PROPOSALS))
    assert f"\x1b[32m+  - id: {IDS[1]}\x1b[0m" in shown
    assert "\u202e" not in shown


def test_how_the_live_policy_takes_it_in(tmp_path: Path, path: Path) -> None:
    assert include_line(DEFAULT, path) == "include: [builtin:default, crawlguard-proposed.yaml]"
    live = tmp_path / "site" / "site.yaml"
    live.parent.mkdir()
    live.write_text("version: 1\ninclude: [builtin:default]\n")
    assert include_line(load_policy(live), path) == "include: [..., ../crawlguard-proposed.yaml]"
    elsewhere = Path("/var/lib/crawlguard-report/crawlguard-proposed.yaml")
    assert include_line(load_policy(live), elsewhere) == f"include: [..., {elsewhere}]"
    assert not takes_part(load_policy(live), path)
    applied(path)
    live.write_text("version: 1\ninclude: [builtin:default, ../crawlguard-proposed.yaml]\n")
    policy: Policy = load_policy(live)
    assert takes_part(policy, path)
    assert [rule.id for rule in policy.rules][-2:] == IDS
