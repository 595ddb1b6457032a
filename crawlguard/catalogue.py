"""The bundled catalogue: ``rules/agents`` and ``rules/networks``, read from YAML once and from its compiled form ever after.

A wheel carries the compiled form (``_rules/*.json``). A checkout reads the YAML beside the package and keeps what it made
in the cache directory, under a name that changes with the files.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, fields
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

from .errors import PolicyError, Problem
from .paths import private_dir
from .policy.entries import AGENT, NETWORK
from .policy.model import Network
from .policy.nodes import Place
from .policy.types import Field, Many, Record
from .signals.ua import Agent, Pattern, UserAgentIndex

_HERE = Path(__file__).resolve().parent
_NOT_AT_RUN_TIME = ("samples", "near_misses", "source", "date")


@cache
def rules_dir() -> Path:
    """Where the bundled rules lie: inside the package when installed, beside it in a checkout."""
    installed = _HERE / "_rules"
    return installed if installed.is_dir() else _HERE.parent / "rules"


@cache
def agents() -> tuple[Agent, ...]:
    """The catalogue's agents, without their samples (see ``read_agents`` for those)."""
    return tuple(map(_agent, _compiled("agents", lambda: [_plain_agent(a) for a in read_agents()])))


@cache
def networks() -> dict[str, Network]:
    """The catalogue's networks by name."""
    rows = _compiled("networks", lambda: [_plain_network(n) for n in read_networks()])
    return {row[0]: Network(Place(), row[0], tuple(row[1]), tuple(row[2]), tuple(row[3])) for row in rows}


@cache
def _index() -> UserAgentIndex:
    return UserAgentIndex(agents())


def identify(user_agent: str) -> Agent | None:
    """The agent of the catalogue that a User-Agent names, or None (people, and machines that nobody has listed).

    Of several agents in one string it is the longest token, then the leftmost. Only the first 512 bytes count.
    """
    return _index().identify(user_agent)


def read_agents() -> list[Agent]:
    """The agents with everything that their files say. Raises PolicyError when a file is malformed."""
    return [agent for agent, _ in _read("agents", AGENT)]


def read_networks() -> list[Network]:
    """The networks with everything that their files say. Raises PolicyError when a file is malformed."""
    return list(_read("networks", NETWORK))


def _read(what: str, record: Record) -> Iterator[Any]:
    from .yamlio import read_document  # the YAML reader is not needed where the compiled form is there

    found: list[Problem] = []
    shape = Record(f"a file of {what}", {what: Field(Many(record, single=False, unique=False), required=True)})
    for path in sorted((rules_dir() / what).glob("*.yaml")):
        node = read_document(path, f"rules/{what}/{path.name}", found.append)
        if node is not None:
            read = shape.read(node, found.append)
            if isinstance(read, dict):
                yield from read[what]
    if found:
        raise PolicyError(found)


def compile_catalogue(directory: Path) -> None:
    """Write the compiled form of the catalogue into a directory: what the build puts into a wheel."""
    for what, make in (
        ("agents", lambda: [_plain_agent(a) for a in read_agents()]),
        ("networks", lambda: [_plain_network(n) for n in read_networks()]),
    ):
        (directory / f"{what}.json").write_text(json.dumps(make(), separators=(",", ":")), "utf-8")


def _compiled(what: str, make: Callable[[], list[Any]]) -> list[Any]:
    shipped = rules_dir() / f"{what}.json"
    if shipped.is_file():
        return json.loads(shipped.read_bytes())  # type: ignore[no-any-return]
    directory = private_dir("cache")
    if directory is None:
        return make()
    path = directory / f"{what}-{_digest(what)}.json"
    try:
        return json.loads(path.read_bytes())  # type: ignore[no-any-return]
    except (OSError, ValueError):
        rows = make()
    partial = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        partial.write_text(json.dumps(rows, separators=(",", ":")), "utf-8")
        os.replace(partial, path)
    except OSError:
        partial.unlink(missing_ok=True)
    return rows


def _digest(what: str) -> str:
    state = blake2b(b"2", digest_size=8)
    for path in sorted((rules_dir() / what).glob("*.yaml")):
        found = path.stat()
        state.update(repr((str(path), found.st_size, found.st_mtime_ns)).encode())
    return state.hexdigest()


def _plain_agent(agent: Agent) -> dict[str, Any]:
    """An agent as JSON: only what differs from the default, and nothing that is for people and tests alone."""
    row: dict[str, Any] = {}
    for one in fields(Agent):
        value = getattr(agent, one.name)
        if one.name == "user_agent":
            row["user_agent"] = [_plain_pattern(p) for p in value]
        elif one.name not in _NOT_AT_RUN_TIME and value != one.default:
            row[one.name] = value
    return row


def _plain_pattern(pattern: Pattern) -> str | dict[str, Any]:
    changed = {k: v for k, v in asdict(pattern).items() if v}
    return pattern.token if len(changed) == 1 else changed


def _agent(row: dict[str, Any]) -> Agent:
    lists = {k: tuple(row.get(k, ())) for k in ("robots", "ranges", "fcrdns")}
    patterns = tuple(map(_pattern, row["user_agent"]))
    return Agent(**{**row, **lists, "user_agent": patterns})


def _pattern(raw: str | dict[str, Any]) -> Pattern:
    if isinstance(raw, str):
        return Pattern(token=raw)
    known: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in raw.items()}
    return Pattern(**known)


def _plain_network(network: Network) -> list[Any]:
    return [network.name, network.cidrs, network.asns, network.tags]
