"""What the tests of the catalogue share: its entries, the corpora of user agents beside the repository, and who stands in a string."""

from __future__ import annotations

from functools import cache

from crawlguard.catalogue import read_agents
from crawlguard.signals.ua import MAX_UA, Agent, UserAgentIndex

from .conftest import SHARED

AGENTS = read_agents()
BY_NAME = {a.name: a for a in AGENTS}
SAMPLES = [(a.name, s) for a in AGENTS for s in a.samples]
NEAR_MISSES = [(a.name, s) for a in AGENTS for s in a.near_misses]

PEOPLE = ("ua_browsers.txt", "ua_browsers_legacy.txt", "ua_apps.txt", "ua_traps.tsv")
HARMLESS = ("ua_feedreaders.txt", "ua_tools_legit.txt", "ua_search_engines.txt", "ua_archives.txt")


@cache
def corpus(name: str) -> tuple[str, ...]:
    """The user agents of one file, as the bytes of a header would arrive. A .tsv holds them in its fourth column."""
    lines = (SHARED / "ua" / name).read_bytes().decode("latin-1").split("\n")
    if name.endswith(".tsv"):
        lines = [line.split("\t")[3] for line in lines[1:] if line]
    return tuple(line for line in lines if line)


@cache
def _index() -> UserAgentIndex:
    return UserAgentIndex(AGENTS)


def found(user_agent: str) -> list[Agent]:
    """All agents that a string names, the primary one first."""
    return [AGENTS[n] for n in _index().find(user_agent.encode("latin-1", "replace")[:MAX_UA])[0]]


def name_of(user_agent: str) -> str | None:
    """The primary agent's name."""
    agents = found(user_agent)
    return agents[0].name if agents else None
