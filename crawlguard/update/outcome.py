"""What an update has to say about one list, for eyes and for scripts."""

from __future__ import annotations

from typing import NamedTuple

UPDATED, UNCHANGED, KEPT, NO_LIST = "updated", "unchanged", "kept", "no list"


class Outcome(NamedTuple):
    """What became of one list. ``old`` and ``new`` count its entries (agents and networks, for a catalogue), collapsed.

    ``added`` and ``removed`` are CIDRs (names, for a catalogue). ``verdict`` "kept" is the one that wants a person: ``reason`` says why;
    "no list" is a network whose operator publishes nothing that a program can read.
    """

    name: str
    urls: tuple[str, ...]
    verdict: str
    old: int = 0
    new: int | None = None
    reason: str = ""
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
