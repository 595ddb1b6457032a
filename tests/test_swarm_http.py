"""A swarm of 5,000 addresses among 2,000 people, over real HTTP: two uvicorn workers that share one table, behind a trusted proxy.

The requests are sent in the order of a day that is thought out beforehand and played faster than it would have passed; all of it lies in
one window of the swarm rule, as it would have.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

import pytest

from .load.server import HERE, site

pytestmark = pytest.mark.alone

PEOPLE, SWARM, EACH = 2_000, 5_000, 2
PAGES = 20_000
DOORS = ("/", "/articles/sourdough", "/articles/rye", "/articles/opening-hours", *(f"/items/{n}" for n in range(26)))
"""Where people come in: what is linked to from elsewhere. Nobody goes there from another page, so they are known by who came in before."""
EARLY = 150
"""People who have been there when the swarm begins: whom it is told apart from."""
BEGINS, ENDS = 60.0, 540.0
"""Seconds of the day between which the swarm comes."""
BEFORE_STOPPED = 500
"""Requests of the swarm that are not judged: it has to be seen first."""
LINES, PORTION = 24, 50
"""Connections that the proxy keeps open, and for how many pages each."""
PARTS, ICON = ("/style.css", "/logo.png"), ("/favicon.ico",)

CHROME = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/157.0.0.0 Safari/537.36"
ENGLISH = "en-US,en;q=0.9"
BROWSERS = (
    (
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/26.3 Safari/605.1.15",
        "de-DE,de;q=0.9",
    ),
    ("Mozilla/5.0 (X11; Linux x86_64; rv:156.0) Gecko/20100101 Firefox/156.0", "en-US,en;q=0.5"),
    ("Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/157.0.0.0 Mobile Safari/537.36", "fr-FR,fr;q=0.8"),
)


@dataclass(frozen=True, slots=True)
class Step:
    """One page that somebody asks for at a time of the day, and what belongs to it unless they are ``bare``."""

    at: float
    person: bool
    address: str
    agent: str
    language: str
    path: str
    bare: bool


def click(rng: random.Random) -> str:
    """Where people go from a page."""
    return f"/items/{rng.randrange(PAGES)}"


def person(rng: random.Random, number: int) -> Iterator[Step]:
    """Comes in by a door, goes on to a few pages, and in one case of four comes back later. Four of ten have the swarm's own browser.

    One in twenty reads a single page in a mode that loads no parts of it. One in fifty comes in by a page that hardly anybody has read, as the
    swarm does: who then has its browser too is refused, which is what most of the share that is allowed for is used up by.
    """
    agent, language = (CHROME, ENGLISH) if rng.random() < 0.4 else rng.choice(BROWSERS)
    address = f"198.{18 + (number >> 16)}.{number >> 8 & 255}.{number & 255}"
    at, bare = rng.uniform(0, BEGINS) if number < EARLY else rng.uniform(BEGINS, ENDS - 60), rng.random() < 0.05
    entry = f"/items/{rng.randrange(PAGES)}" if rng.random() < 0.02 else rng.choice(DOORS)
    paths = [entry, *(click(rng) for _ in range(0 if bare else rng.randrange(5)))]
    for path in paths:
        yield Step(at, True, address, agent, language, path, bare)
        at += rng.uniform(6, 20)
    if not bare and rng.random() < 0.25:
        yield Step(at + rng.uniform(60, 200), True, address, agent, language, click(rng), False)


def day(rng: random.Random) -> list[Step]:
    """What everybody does, in the order of time."""
    steps = [step for number in range(PEOPLE) for step in person(rng, number)]
    fresh = iter(rng.sample(range(PAGES), SWARM * EACH))
    for number in range(SWARM):
        address = f"2001:db8:{number:x}:{rng.randrange(1 << 16):x}::1"
        steps += [Step(rng.uniform(BEGINS, ENDS), False, address, CHROME, ENGLISH, f"/items/{next(fresh)}", True) for _ in range(EACH)]
    return sorted(steps, key=lambda step: step.at)


class Line:
    """One of the proxy's connections to the site."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def get(self, step: Step, path: str) -> int:
        """The status of one request. What belongs to a page says so, as a browser does."""
        referer = "" if path == step.path else f"Referer: https://shop.example{step.path}\r\n"
        self._writer.write(
            f"GET {path} HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: {step.agent}\r\nAccept-Language: {step.language}\r\n"
            f"Accept-Encoding: gzip, deflate, br\r\n{referer}X-Forwarded-For: {step.address}\r\n\r\n".encode()
        )
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        await self._reader.readexactly(int(head.partition("content-length: ")[2].partition("\r\n")[0]))
        return int(head[9:12])

    async def close(self) -> None:
        self._writer.close()
        await self._writer.wait_closed()


@dataclass(frozen=True, slots=True)
class Met:
    """One request: whose step it belongs to, what was asked for, and the status of the answer."""

    step: Step
    path: str
    status: int


async def play(port: int, steps: Iterable[Step]) -> list[Met]:
    """What all requests met, in the order in which they were answered. A browser that is refused a page asks for the site's icon nevertheless."""
    todo, met = iter(steps), []

    async def go() -> None:
        for first in todo:  # a new connection for every PORTION of steps, so that every worker gets its share
            line = Line(*await asyncio.open_connection("127.0.0.1", port))
            for step in chain([first], islice(todo, PORTION - 1)):
                status = await line.get(step, step.path)
                met.append(Met(step, step.path, status))
                parts = () if step.bare else PARTS if status == 200 else ICON
                met.extend([Met(step, part, await line.get(step, part)) for part in parts])
            await line.close()

    async with asyncio.TaskGroup() as proxy:
        for _ in range(LINES):
            proxy.create_task(go())
    return met


def test_a_swarm_is_stopped_and_the_people_among_it_are_not(tmp_path: Path) -> None:
    with site(tmp_path, str(HERE / "policies" / "swarm.yaml")) as (_, url):
        met = asyncio.run(play(int(url.rpartition(":")[2]), day(random.Random(5))))
    assert {one.status for one in met} == {200, 429}
    people, swarm = ([one.status == 429 for one in met if one.step.person is person] for person in (True, False))
    late = swarm[BEFORE_STOPPED:]
    assert (len(swarm), len(people) > 5 * PEOPLE) == (SWARM * EACH, True)
    assert sum(late) / len(late) >= 0.95
    assert sum(people) / len(people) <= 0.002
    decisions = [json.loads(meter.read_bytes())["decisions"] for meter in tmp_path.glob("meter-*.json")]
    assert len(decisions) == 2
    assert min(decisions) > len(met) / 10, "both workers took part"
