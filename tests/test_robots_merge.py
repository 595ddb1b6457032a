"""An existing robots.txt and a policy in one file: nothing that the file asks is lost, nobody whom the policy refuses is invited."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crawlguard import Policy
from crawlguard.export.robots import Export, robots_txt
from crawlguard.export.robotstxt import RobotsFile, parse
from crawlguard.loader import parse_policy


def policy_of(rules: str = "[{id: training, when: {agent: {category: training}}, then: block}]", more: str = "") -> Policy:
    policy, problems = parse_policy(f"version: 1\n{more}\nrules: {rules}\n")
    assert policy is not None, problems
    return policy


def merged(existing: str, policy: Policy | None = None) -> Export:
    policy = policy or policy_of()
    return robots_txt(replace(policy, robots=policy.robots._replace(existing=existing.encode())))


def test_a_group_keeps_its_rules_its_other_lines_and_its_comments() -> None:
    made = merged(
        "# slow machines\nUser-agent: bingbot\nUser-agent: Slurp\nDisallow: /slow/\nAllow: /slow/fast\nCrawl-delay: 7\nClean-param: sid\n"
    ).text
    (group,) = [block for block in made.split("\n\n") if "bingbot" in block]
    assert group.startswith("# slow machines\nUser-agent: bingbot\nUser-agent: Slurp\n")
    assert {"Disallow: /slow/", "Allow: /slow/fast", "Crawl-delay: 7", "Clean-param: sid"} <= set(group.split("\n"))


def test_an_agent_that_gets_a_group_of_its_own_keeps_what_everybody_was_told() -> None:
    policy = policy_of("[{id: seo, when: {agent: {category: seo}, path: /shop/}, then: block}]")
    file = parse(merged("User-agent: *\nDisallow: /admin/\n", policy).text.encode())
    assert [file.allows("SemrushBot", path) for path in ("/admin/", "/shop/", "/")] == [False, False, True]
    assert [file.allows("bingbot", path) for path in ("/admin/", "/shop/")] == [False, True]


def test_whom_the_policy_refuses_is_not_invited_and_that_is_said() -> None:
    made = merged("User-agent: GPTBot\nAllow: /blog/\nDisallow: /\n")
    assert not parse(made.text.encode()).allows("GPTBot", "/blog/x")
    assert [n for n in made.notes if "GPTBot" in n] == ["Allow: /blog/ is left out for GPTBot: the policy refuses it everywhere"]


def test_what_the_file_told_everybody_contradicts_nothing() -> None:
    assert [n for n in merged("User-agent: *\nAllow: /\nDisallow: /x\n").notes if "left out" in n] == []


def test_an_invitation_into_a_part_that_is_closed_is_left_out() -> None:
    policy = policy_of("[{id: private, when: {path: /private/}, then: block}]")
    made = merged("User-agent: bingbot\nAllow: /private/open/\nAllow: /other\nDisallow: /tmp/\n", policy)
    file = parse(made.text.encode())
    assert [file.allows("bingbot", p) for p in ("/private/open/x", "/other", "/tmp/")] == [False, True, False]
    assert [n for n in made.notes if "left out" in n] == ["Allow: /private/open/ is left out for bingbot: the policy refuses some of it"]


def test_what_the_policy_says_of_the_whole_site_stands_beside_what_the_file_says() -> None:
    policy = policy_of(more="robots: {sitemap: https://example.org/new.xml, crawl_delay: {bingbot: 3}}")
    text = merged("User-agent: bingbot\nCrawl-delay: 9\n\nSitemap: https://example.org/old.xml\nHost: example.org\n", policy).text
    assert text.endswith("\nSitemap: https://example.org/new.xml\nSitemap: https://example.org/old.xml\nHost: example.org\n")
    assert [line for line in text.splitlines() if line.startswith("Crawl-delay")] == ["Crawl-delay: 3"]  # the policy's own word


def test_signals_that_the_file_gives_stay() -> None:
    text = merged("User-agent: *\nContent-Signal: search=no\nDisallow:\n").text
    assert [line for line in text.split("User-agent: *\n")[1].splitlines() if line.startswith("Content-Signal")] == [
        "Content-Signal: search=no"
    ]


def test_merging_twice_changes_nothing() -> None:
    once = merged("# a\nUser-agent: bingbot\nDisallow: /slow/\nCrawl-delay: 7\n\nUser-agent: *\nDisallow: /x\n").text
    assert _without_head(merged(once).text) == _without_head(once)


def _without_head(text: str) -> list[str]:
    return sorted(line for line in text.splitlines() if not line.startswith("#"))


_TOKENS = st.sampled_from(["*", "GPTBot", "bingbot", "Googlebot", "SomeBot", "gptbot"])
_PATTERNS = st.sampled_from(["/", "/a", "/a/b", "/*.pdf$", "/a*c", "/b$", ""])
_GROUPS = st.lists(
    st.tuples(st.lists(_TOKENS, min_size=1, max_size=2), st.lists(st.tuples(st.booleans(), _PATTERNS), min_size=1, max_size=4)), max_size=4
)
_POLICIES = [
    policy_of(),
    policy_of("[{id: a, when: {path: /a/}, then: block}]"),
    policy_of("[{id: a, when: {path: '/*.pdf$', agent: {ai: true}}, then: block}, {id: b, when: {path: /b, agent: bingbot}, then: hide}]"),
]
_PATHS = ("/", "/a", "/a/b", "/a/x.pdf", "/abc", "/b", "/b/c", "/x.pdf", "/other")


@cache
def _alone(which: int) -> RobotsFile:
    """What one of the policies says where there is no file yet."""
    return parse(robots_txt(_POLICIES[which]).text.encode())


@settings(max_examples=300, deadline=None)
@given(_GROUPS, st.sampled_from(range(len(_POLICIES))))
def test_the_merged_file_asks_at_least_what_each_of_the_two_asks(
    groups: list[tuple[list[str], list[tuple[bool, str]]]], which: int
) -> None:
    existing = "\n".join(
        "".join(f"User-agent: {t}\n" for t in tokens) + "".join(f"{'Allow' if a else 'Disallow'}: {p}\n" for a, p in rules)
        for tokens, rules in groups
    )
    made = merged(existing, _POLICIES[which])
    both, theirs, ours = parse(made.text.encode()), parse(existing.encode()), _alone(which)
    told = any("Disallow that Allow" in note for note in made.notes)
    for token in ("GPTBot", "bingbot", "Googlebot", "SomeBot", "Nobody"):
        for path in _PATHS:
            if not ours.allows(token, path):
                assert not both.allows(token, path), (token, path, made.text)
            if not theirs.allows(token, path) and not told:
                assert not both.allows(token, path), (token, path, made.text)


@pytest.mark.parametrize("junk", ["\x00\xff", "User-agent", "Disallow: /", "User-agent:\nDisallow: /", "# only a comment"])
def test_a_file_that_says_nothing_harms_nothing(junk: str) -> None:
    assert not parse(merged(junk).text.encode()).allows("GPTBot", "/")
    assert parse(merged(junk).text.encode()).allows("bingbot", "/")
