"""CPU time per request of several middlewares that take turns, and what they share: the no-op ones and the applications."""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from itertools import pairwise
from statistics import median
from time import process_time_ns
from typing import Any

from .clock import note, slowness
from .traffic import Request, environs, scopes

ROUNDS = 60
REQUESTS = 1000
"""Rounds of a comparison, and requests that each side gets in a round."""
PORTION = 20
"""Requests that are made and then timed together: few, so that they are in the CPU's cache as in a server that has just read them."""

Asgi = Callable[[Any, Any, Any], Awaitable[None]]
Wsgi = Callable[[Any, Any], Iterable[bytes]]


class NoOpAsgi:
    """What any ASGI middleware costs."""

    def __init__(self, app: Asgi) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app(scope, receive, send)


class NoOpWsgi:
    """What any WSGI middleware costs."""

    def __init__(self, app: Wsgi) -> None:
        self.app = app

    def __call__(self, environ: Any, start_response: Any) -> Iterable[bytes]:
        return self.app(environ, start_response)


class Site:
    """The application behind: as little as can be, and it counts who got through."""

    def __init__(self) -> None:
        self.served = 0

    async def asgi(self, scope: Any, receive: Any, send: Any) -> None:
        self.served += 1

    def wsgi(self, environ: Any, start_response: Any) -> list[bytes]:
        self.served += 1
        return []


async def _receive() -> dict[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}


async def _send(message: Any) -> None:
    pass


def _portions(requests: list[Request]) -> Iterator[list[Request]]:
    return (requests[at : at + PORTION] for at in range(0, len(requests), PORTION))


def time_asgi(app: Asgi, requests: list[Request]) -> float:
    """Nanoseconds of CPU per request."""
    total = 0
    for portion in _portions(requests):
        made = scopes(portion)
        started = process_time_ns()
        for scope in made:
            try:  # noqa: SIM105 - suppress() would be timed too
                app(scope, _receive, _send).send(None)  # type: ignore[attr-defined]
            except StopIteration:
                pass
        total += process_time_ns() - started
    return total / len(requests)


def time_wsgi(app: Wsgi, requests: list[Request]) -> float:
    """Nanoseconds of CPU per request."""
    total = 0
    for portion in _portions(requests):
        made = environs(portion)
        started = process_time_ns()
        for environ in made:
            app(environ, None)
        total += process_time_ns() - started
    return total / len(requests)


def take_turns(
    sides: Mapping[str, Callable[[list[Request]], float]],
    traffic: Callable[[int], list[Request]],
    rounds: int = ROUNDS,
    requests: int = REQUESTS,
) -> dict[str, float]:
    """Nanoseconds that each side adds to the first one, which is the no-op: the median over the rounds.

    The clock is looked at between rounds: the machine's speed may change twofold within a second.
    """
    names = list(sides)
    added: dict[str, list[float]] = {name: [] for name in names}
    for name in names:  # caches filled, code specialised
        sides[name](traffic(requests))
        sides[name](traffic(requests))
    gc.collect()
    gc.freeze()
    slow = [slowness()]
    for number in range(rounds):
        found = {name: sides[name](traffic(requests)) for name in (names if number % 2 else reversed(names))}
        for name in names:
            added[name].append(found[name] - found[names[0]])
        slow.append(slowness())
    gc.unfreeze()
    last = added[names[-1]]
    note(median(last) / median(taken / (before + after) * 2 for taken, (before, after) in zip(last, pairwise(slow), strict=True)))
    return {name: median(values) for name, values in added.items()}
