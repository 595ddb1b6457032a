"""Who visits in the scenarios of signatures: people, and for each signature the attackers that it is made for. A locust file.

Attackers of a kind share two addresses (or subnets, or one fingerprint); locust is told which classes take part.
"""

from __future__ import annotations

from itertools import count

from gevent import sleep
from locust import constant, constant_throughput, task

from tests.load.kinds import ATTACKERS, PEOPLE, PERSONS
from tests.load.visitors import ASSETS, BROWSERS, CHROME, LANGUAGES, NAVIGATION, PAGES, Visitor, asked, rng, somebody

GOODS = 5_000
ENGLISH = {"Accept-Language": LANGUAGES[0]}
SETTLED = 500
"""Requests by people after which the swarm comes: it is told apart by what the site's people do, so there must have been some."""

_numbers = count()


class Reading(Visitor):
    """Somebody with a browser."""

    abstract = True
    kind = PEOPLE

    def read(self, path: str, address: str, agent: str, language: dict[str, str], *, bare: bool = False) -> None:
        """A page and, unless it is read in a text or reader mode, what belongs to it."""
        self.ask(path, address, agent, NAVIGATION | language)
        for asset, accept in () if bare else ASSETS:
            self.ask(asset, address, agent, accept | language)


class Person(Reading):
    """Comes by one of the site's doors, looks at a few goods, and sometimes comes back. One in twenty reads a single page without its parts."""

    fixed_count = PERSONS
    wait_time = constant(0.05)

    def on_start(self) -> None:
        self.known: list[tuple[str, str, dict[str, str]]] = []

    @task
    def visit(self) -> None:
        if self.known and rng.random() < 0.3:
            who = self.known.pop(rng.randrange(len(self.known)))
        else:
            who = somebody(), rng.choice(BROWSERS), {"Accept-Language": rng.choice(LANGUAGES)}
        if rng.random() < 0.05:
            self.read(rng.choice(PAGES), *who, bare=True)
            return
        self.read(rng.choice(PAGES), *who)
        for _ in range(rng.randrange(4)):
            sleep(rng.expovariate(1 / 0.1))
            self.read(f"/items/{rng.randrange(GOODS)}", *who)
        if rng.random() < 0.1:
            self.ask("/no-longer-there", *who[:2], NAVIGATION | who[2])
            self.ask("/files/price-list.pdf", *who[:2], NAVIGATION | who[2])
        self.known.append(who)


class Bookworm(Reading):
    """One who reads on and on, at a person's uneven pace: more pages than most limits of the scenarios admit, but with all that belongs to them."""

    fixed_count = 1
    wait_time = constant(0)

    @task
    def read_on(self) -> None:
        sleep(min(1.0, rng.expovariate(1 / 0.12)))
        self.read(f"/items/{rng.randrange(GOODS)}", "192.0.2.77", BROWSERS[4], ENGLISH)


class Polite(Visitor):
    """A crawler that fetches robots.txt first."""

    kind, fixed_count = PEOPLE, 1
    wait_time = constant_throughput(15)

    def on_start(self) -> None:
        self.ask("/robots.txt", "192.0.2.99", "polite/1.0")

    @task
    def crawl(self) -> None:
        self.ask(f"/items/{rng.randrange(GOODS)}", "192.0.2.99", "polite/1.0")


class Attacker(Visitor):
    """From one of two addresses, in the guise of the commonest browser."""

    abstract = True
    kind = ATTACKERS
    wait_time = constant_throughput(60)

    def on_start(self) -> None:
        self.number = next(_numbers)
        self.address = f"203.0.113.{self.number % 2}"

    def crawl(self, path: str, address: str | None = None, agent: str = CHROME) -> None:
        self.ask(path, address or self.address, agent, NAVIGATION | ENGLISH)


class Hammer(Attacker):
    """Asks for the same as fast as it can, the parts of the pages too."""

    wait_time = constant_throughput(100)

    @task
    def hit(self) -> None:
        self.crawl(rng.choice(("/", "/style.css", "/logo.png")))


class Hopper(Attacker):
    """Takes another address out of its network for each request: a /24, and a /48 of IPv6 of which it has every /64."""

    @task
    def hop(self) -> None:
        hop = rng.randrange(1 << 16)
        self.crawl(rng.choice(PAGES), f"203.0.113.{hop & 255}" if self.number % 2 else f"2001:db8:77:{hop:x}::1")


class Harvester(Attacker):
    """One page after the other, none twice, and nothing that belongs to them."""

    @task
    def take(self) -> None:
        self.crawl(f"/items/{next(_numbers)}")


class Scanner(Attacker):
    """Tries whether something was left lying about."""

    @task
    def guess(self) -> None:
        self.crawl(f"/backup-{rng.getrandbits(32):x}.zip")


class Prober(Attacker):
    """Tries numbers that the application answers with an error."""

    @task
    def probe(self) -> None:
        self.crawl(f"/orders/{rng.randrange(10**6)}")


class Downloader(Attacker):
    """Fetches large files, few enough for limits on requests."""

    wait_time = constant_throughput(25)

    @task
    def download(self) -> None:
        self.crawl(f"/files/{rng.randrange(100)}.pdf")


class Metronome(Attacker):
    """Slow, from an address of its own, and as even as a clock."""

    wait_time = constant_throughput(3.5)

    @task
    def tick(self) -> None:
        self.crawl(f"/items/{rng.randrange(GOODS)}", f"203.0.113.{self.number}")


class Changeling(Attacker):
    """Another address for each request, but always the same headers, which nobody else sends so."""

    @task
    def change(self) -> None:
        self.ask(f"/items/{rng.randrange(GOODS)}", somebody(), CHROME.replace("146", "117"), {"Accept-Language": "en"})


class Searcher(Attacker):
    """Another address and another browser for each request, all for the one page that costs the site most."""

    @task
    def search(self) -> None:
        self.crawl(f"/search?q={rng.getrandbits(64):x}", somebody(), CHROME.replace("146", str(rng.randrange(10**6))))


class Recidivist(Attacker):
    """Goes on and on, whatever it is told."""

    @task
    def go_on(self) -> None:
        self.crawl(rng.choice(PAGES))


class Swarm(Attacker):
    """Two pages from each of a great many addresses, in the guise of the commonest browser."""

    @task
    def come(self) -> None:
        if asked(PEOPLE) >= SETTLED:
            address = f"2001:db8:{rng.randrange(1 << 16):x}:{rng.randrange(1 << 16):x}::1"
            for _ in range(2):
                self.crawl(f"/items/{next(_numbers)}", address)
