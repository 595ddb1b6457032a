"""The condition ``swarm``: what it is as data, and how it is read. What a swarm is, is in ``signals.swarm``."""

from __future__ import annotations

from typing import Any, NamedTuple

from ..signals.sketch import MOST
from .nodes import Node, Place
from .types import INVALID, Choice, Duration, Field, Flag, Integer, Json, Many, Record, Report

SWARM_KEYS = ("fingerprint", "asn", "subnet", "path")


class SwarmIs(NamedTuple):
    """At least ``clients`` bare members of a group (``per``) within ``within`` us, ``times`` what is usual for it, on paths of their own."""

    place: Place
    per: tuple[str, ...] = ("fingerprint",)
    clients: int = 50
    within: int = 600_000_000
    times: int = 5


def _true(node: Node, report: Report) -> Any:
    if node.kind == "text" and node.text.lower() == "true":
        return SwarmIs(node.place)
    return INVALID if Flag().read(node, report) is INVALID else SWARM.read_fields(node, report)


class _True:
    def schema(self) -> Json:
        return {"const": True}


SWARM = Record(
    "'swarm'",
    {
        "per": Field(Many(Choice(SWARM_KEYS)), "Who belongs together: fingerprint (by default), asn, subnet, path, or a mix."),
        "clients": Field(Integer(10, MOST), "At least so many addresses that load no assets (50) ..."),
        "within": Field(Duration(), "... in this time (10m), a window that begins with the group's first request ..."),
        "times": Field(Integer(1, 1000), "... and at least so many times what is usual for the group (5)."),
    },
    SwarmIs,
    shorthand=_true,
    shorthand_schema=_True().schema(),
    extra={"minProperties": 1},
)
