"""How exact a limit is in batches: eight processes that tell one server ten times a second what they admitted, against the bound of ``store.batch``."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil
from pathlib import Path

import pytest

from .test_exactness import LIMIT, PROCESSES, WITHIN, Admitted, Host, crowd, hammer
from .valkey_server import Server, serving

pytestmark = pytest.mark.alone

EVERY = 0.1
FLUSH = 0.15
"""Seconds that a flush may take on a machine on which eight processes fight for two processors."""
FEW = PROCESSES


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serving(tmp_path) as made:
        yield made


def bound(pause: float) -> float:
    """The most that a client may get beyond the limit when each process is asked once in ``pause`` seconds (0: as often as it can)."""
    unheard = EVERY + 2 * FLUSH
    alone = LIMIT + unheard * LIMIT / WITHIN
    return (PROCESSES - 1) * (min(alone, ceil(unheard / pause)) if pause else alone)


def rounds(server: Server, pause: float) -> list[Admitted]:
    store = f'{{url: "{server.url}", kind: memory, batch: {EVERY * 1000:.0f}ms}}'
    with crowd([Host((), store, pause)]) as workers:
        return [hammer(workers, f"203.0.113.{number}") for number in range(3)]


@pytest.mark.parametrize("pause", [0, 0.04])
def test_the_excess_keeps_its_bound(server: Server, pause: float) -> None:
    found = rounds(server, pause)
    for one in found:
        assert -PROCESSES <= one.number - one.allowed <= bound(pause), found
    if not pause:  # who hammers does get more: this is what the mode costs
        assert max(one.number - one.allowed for one in found) > LIMIT, found


def test_requests_further_apart_than_a_flush_are_limited_within_a_few(server: Server) -> None:
    found = rounds(server, 0.12)  # 200 in 3 s, of which 130 are allowed
    for one in found:
        assert abs(one.number - one.allowed) <= FEW, found
