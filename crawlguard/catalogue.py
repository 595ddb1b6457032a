"""The catalogue (``rules/agents``, ``rules/networks``) and the bundled policies, read from YAML once and from their compiled form ever after.

A wheel carries the compiled form (``_rules/*.json``). A checkout reads the YAML beside the package and keeps what it made
in the cache directory, under a name that changes with the files. What ``crawlguard update`` has fetched since (see ``datadir``)
stands in the place of what is bundled, entry by entry, where it is newer; nothing that is bundled ever vanishes by it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache, wraps
from hashlib import blake2b
from pathlib import Path
from typing import Any, TypeVar

from . import datadir
from .errors import PolicyError, Problem
from .paths import private_dir
from .policy.entries import AGENT, NETWORK
from .policy.model import Network
from .policy.nodes import Node, Place, node_of, plain
from .policy.types import Field, Many, Record
from .signals.ua import Agent, Pattern, UserAgentIndex

_HERE = Path(__file__).resolve().parent
_NOT_AT_RUN_TIME = ("samples", "near_misses", "source", "date")


@cache
def rules_dir() -> Path:
    """Where the bundled rules lie: inside the package when installed, beside it in a checkout."""
    installed = _HERE / "_rules"
    return installed if installed.is_dir() else _HERE.parent / "rules"


_T = TypeVar("_T")
_trial: list[dict[str, Any]] = []
"""An updated catalogue that is being tried, see ``trial``."""


def _until_updated(make: Callable[[], _T]) -> Callable[[], _T]:
    """Keep what ``make`` returns until a file in the data directories changes."""
    kept: tuple[object, _T] | None = None

    @wraps(make)
    def get() -> _T:
        nonlocal kept
        now = (rules_dir(), datadir.stamp(), *map(id, _trial))
        held = kept
        if held is None or held[0] != now:
            held = kept = (now, make())
            _index.cache_clear()
        return held[1]

    return get


@_until_updated
def agents() -> tuple[Agent, ...]:
    """The catalogue's agents, without their samples (see ``read_agents`` for those)."""
    rows = {row["name"]: row for row in _compiled("agents", lambda: [_plain_agent(a) for a in read_agents()])}
    bundled = {name: _agent(row) for name, row in rows.items()}
    return tuple((bundled | _updated("agents", lambda new: {row["name"]: _agent(row) for row in new})).values())


@_until_updated
def networks() -> dict[str, Network]:
    """The catalogue's networks by name, each with the newest that is known of it."""
    rows = _compiled("networks", lambda: [_plain_network(n) for n in read_networks()])
    bundled = _networks(rows)
    newer = _updated("networks", _networks)
    # A list's snapshot in an older or newer catalogue: the newer one of the two.
    newer = {name: n for name, n in newer.items() if name not in bundled or n.date >= bundled[name].date}
    found = bundled | newer
    return {name: fresh(network) for name, network in found.items()} if _lists() else found


def fresh(network: Network) -> Network:
    """A network with what ``crawlguard update`` has last fetched from its lists, if that is newer than what it has."""
    entry = fetched(network)
    if entry is None:
        return network
    cidrs = dict.fromkeys(cidr for part in entry["parts"] for cidr in part["cidrs"])
    return network._replace(cidrs=tuple(cidrs), date=entry["checked"])


def fetched(network: Network) -> dict[str, Any] | None:
    """What ``crawlguard update`` has last fetched from a network's lists (its shape: ``datadir.RANGES``), unless what is bundled is newer."""
    entry = _lists().get(list_key(network)) if network.ranges else None
    return entry if entry is not None and entry["checked"] >= network.date else None


def list_key(network: Network) -> str:
    """Under what a network's lists are kept: its URLs, so that two policies may use one name for different lists."""
    return " ".join(network.ranges)


@_until_updated
def _lists() -> dict[str, Any]:
    """By key, the newest that any data directory knows."""
    found: dict[str, Any] = {}
    for value in datadir.load(datadir.RANGES):
        try:
            for key, entry in value["lists"].items():
                if key not in found or found[key]["checked"] < entry["checked"]:
                    found[key] = entry
        except (TypeError, KeyError, AttributeError) as error:
            datadir.forget(datadir.RANGES, f"its content is malformed ({error!r})")
    return found


def updated_catalogue() -> dict[str, Any] | None:
    """The newest fetched catalogue (its shape: ``datadir.CATALOGUE``); None when there is none, or what is bundled is newer."""
    found = _trial or datadir.load(datadir.CATALOGUE)
    newest = max(found, key=lambda value: str(value.get("date")), default=None)
    return newest if newest is not None and (_trial or newest["date"] >= bundled_date()) else None


def bundled_date() -> str:
    """The newest date in the bundled catalogue, as far as its compiled form knows."""
    rows = _compiled("networks", lambda: [_plain_network(n) for n in read_networks()])
    return max((row[5] for row in rows), default="")


def _updated(what: str, make: Callable[[list[Any]], dict[str, _T]]) -> dict[str, _T]:
    try:
        found = updated_catalogue()
        return make(found[what]) if found is not None else {}
    except (TypeError, KeyError, ValueError, AttributeError, IndexError) as error:
        if _trial:
            raise
        datadir.forget(datadir.CATALOGUE, f"its content is malformed ({error!r})")
        return {}


@contextmanager
def trial(value: dict[str, Any]) -> Iterator[None]:
    """Inside, the catalogue is as it would be with this updated one: to load a policy with it before it is put in force."""
    _trial.append(value)
    try:
        yield
    finally:
        _trial.clear()


def policy_names() -> list[str]:
    """The names of the bundled policies."""
    return sorted(path.stem for path in (rules_dir() / "policies").glob("*.yaml"))


def bundled_policy(name: str, shown: str) -> Node:
    """The document of a bundled policy. ``shown``: its name for people. Raises PolicyError when the file is malformed."""
    return node_of(_compiled("policies", _plain_policies)[name], shown)


@cache
def _index() -> UserAgentIndex:
    return UserAgentIndex(agents())


def identify(user_agent: str) -> Agent | None:
    """The agent of the catalogue that a User-Agent names, or None (people, and machines that nobody has listed).

    Of several agents in one string it is the longest token, then the leftmost. Only the first 512 bytes count.
    An updated catalogue counts from the next time that a policy is loaded in this process.
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
    for what, rows in (*compiled(read_agents(), read_networks()).items(), ("policies", _plain_policies())):
        (directory / f"{what}.json").write_text(json.dumps(rows, separators=(",", ":")), "utf-8")


def compiled(agents: Iterable[Agent], networks: Iterable[Network]) -> dict[str, list[Any]]:
    """The rows of agents and networks in their compiled form, which says all that counts at run time."""
    return {"agents": [_plain_agent(a) for a in agents], "networks": [_plain_network(n) for n in networks]}


def _plain_policies() -> dict[str, Any]:
    from .yamlio import read_document

    found: list[Problem] = []
    paths = {name: rules_dir() / "policies" / f"{name}.yaml" for name in policy_names()}
    nodes = {name: read_document(path, f"rules/policies/{path.name}", found.append) for name, path in paths.items()}
    if found:
        raise PolicyError(found)
    return {name: plain(node) for name, node in nodes.items() if node is not None}


def _compiled(what: str, make: Callable[[], Any]) -> Any:
    shipped = rules_dir() / f"{what}.json"
    if shipped.is_file():
        return json.loads(shipped.read_bytes())
    directory = private_dir("cache")
    if directory is None:
        return make()
    path = directory / f"{what}-{_digest(what)}.json"
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        rows = make()
    partial = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        partial.write_text(json.dumps(rows, separators=(",", ":")), "utf-8")
        os.replace(partial, path)
    except OSError:
        with suppress(OSError):  # the directory may be closed to us
            partial.unlink(missing_ok=True)
    return rows


def _digest(what: str) -> str:
    state = blake2b(b"3", digest_size=8)
    for path in sorted((rules_dir() / what).glob("*.yaml")):
        found = path.stat()
        state.update(repr((str(path), found.st_size, found.st_mtime_ns)).encode())
    return state.hexdigest()


def _plain_agent(agent: Agent) -> dict[str, Any]:
    """An agent as JSON: only what differs from the default, and nothing that is for people and tests alone."""
    row = {k: v for k, v in agent._asdict().items() if k not in _NOT_AT_RUN_TIME and v != Agent._field_defaults.get(k)}
    return {**row, "user_agent": [_plain_pattern(p) for p in agent.user_agent]}


def _plain_pattern(pattern: Pattern) -> str | dict[str, Any]:
    changed = {k: v for k, v in pattern._asdict().items() if v}
    return pattern.token if len(changed) == 1 else changed


def _agent(row: dict[str, Any]) -> Agent:
    """The agent of a row. Raises KeyError or TypeError when the row is malformed."""
    known = {**row, "user_agent": tuple([Pattern(p) if isinstance(p, str) else _pattern(p) for p in row["user_agent"]])}
    for key in ("robots", "ranges", "fcrdns"):
        if key in row:
            known[key] = tuple(row[key])
    return Agent(**known)


def _pattern(raw: dict[str, Any]) -> Pattern:
    known = {**raw}
    for key in ("after", "with_", "without"):
        if key in raw:
            known[key] = tuple(raw[key])
    return Pattern(**known)


def _plain_network(network: Network) -> list[Any]:
    return [network.name, network.cidrs, network.asns, network.tags, network.operator, network.date, network.ranges]


def _networks(rows: Iterable[Any]) -> dict[str, Network]:
    return {
        name: Network(Place(), name, tuple(cidrs), tuple(asns), tuple(tags), None, operator, date, tuple(ranges))
        for name, cidrs, asns, tags, operator, date, ranges in rows
    }
