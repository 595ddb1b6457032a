"""Who takes part in the load tests, and what must happen to them. Apart from locust, whose import patches the whole process."""

from __future__ import annotations

from dataclasses import dataclass

PEOPLE, CRAWLERS, FEEDS, SEARCH = "people", "declared crawlers", "feed readers", "search engine"
KINDS = (PEOPLE, CRAWLERS, FEEDS, SEARCH)
USERS = 20
"""Locust users of the mix at once, of all kinds."""
ATTACKERS = "attackers"
PERSONS = 8
"""Locust users who play one person after another in each scenario of a signature."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """Attackers whom one signature is made for, among people. Its policy is policies/``name``.yaml, its users are classes of signatures.py.

    ``attackers``: the class, and how many of it. ``beside``: classes that look a little like them, one user each, and are to be served.
    ``admitted``: requests that the attackers may be served at most, whatever the speed of the machine: what the limits admit in a run of
    ``seconds``. ``refused``: the share of all that they send that is refused at least. ``wait``: a Retry-After that they meet at least. ``people``: the
    share of people's requests that may be refused.
    """

    name: str
    attackers: str
    number: int
    admitted: int
    refused: float = 0.3
    beside: tuple[str, ...] = ("Bookworm",)
    wait: int = 1
    people: float = 0.0
    seconds: int = 8


REFILL = 12
"""Seconds for which limits are refilled in a scenario at most: locust begins and ends a little late."""

SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario(name="ip", attackers="Hammer", number=4, admitted=2 * (300 + 5 * REFILL)),
        Scenario(name="subnet", attackers="Hopper", number=4, admitted=2 * (200 + 200 * REFILL // 60)),
        Scenario(name="documents", attackers="Harvester", number=4, admitted=2 * (100 + REFILL // 6)),
        Scenario(name="paths", attackers="Harvester", number=4, admitted=2 * (60 + 60 // 20 + 2)),
        Scenario(name="misses", attackers="Scanner", number=4, admitted=2 * (20 + 2 + REFILL // 3)),
        Scenario(name="errors", attackers="Prober", number=4, admitted=2 * (20 + 2 + REFILL // 3)),
        Scenario(name="bytes", attackers="Downloader", number=4, admitted=2 * (20_000_000 // (256 << 10) + 3)),
        Scenario(name="regular", attackers="Metronome", number=6, admitted=6 * 24, seconds=12),
        Scenario(name="robots", attackers="Harvester", number=4, admitted=2 * (40 + REFILL // 15), beside=("Bookworm", "Polite")),
        Scenario(name="fingerprint", attackers="Changeling", number=4, admitted=100 + 100 * REFILL // 60),
        Scenario(name="global", attackers="Searcher", number=4, admitted=100 + 100 * REFILL // 60),
        Scenario(name="growing", attackers="Recidivist", number=4, admitted=2 * (60 + 6 * REFILL), wait=3),
        Scenario(name="swarm", attackers="Swarm", number=4, admitted=250, people=0.002),
    )
}
