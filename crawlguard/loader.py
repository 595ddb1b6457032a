"""From files to one Policy: includes, the bundled policies, the site's own agents and networks. All errors at once.

The YAML reader is imported when a site's own file is read: the bundled policies come compiled, and to load it is a tenth of a command's start.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from glob import escape, glob, has_magic
from pathlib import Path
from typing import Any

from . import catalogue, datadir
from .errors import ConfigError, PolicyError, Problem
from .mmdb import probe
from .paths import MAX_BYTES
from .policy import conditions as c
from .policy.check import check_policy, errors, walk
from .policy.model import VERSION, Log, Network, Policy, Robots, Rule, Store
from .policy.nodes import Node, Place
from .policy.problems import problem
from .policy.schema import DOCUMENT, RULE
from .policy.types import INVALID, Cidr, closest
from .signals.ua import Agent

BUILTIN = "builtin:"

_HIDES = {
    "file": ("CG018", "CG019", "CG020", "CG029", "CG037", "CG102"),
    "include": ("CG018", "CG019", "CG020", "CG037", "CG102"),
    "agents": ("CG018", "CG019"),
    "networks": ("CG020",),
    "rules": ("CG037", "CG102"),
    "data": ("CG026", "CG027"),
}
"""For each broken part of a policy, the problems of the whole that may be its fault alone."""


def load_policy(source: str | os.PathLike[str] | Policy | None = None) -> Policy:
    """A checked policy from a file, from ``builtin:NAME``, or (None) the bundled default.

    Raises PolicyError with every problem found. Doubts (severity "warning") are in the policy's ``warnings``.
    """
    if isinstance(source, Policy):
        return source
    if source is not None and not isinstance(source, str | os.PathLike):
        raise ConfigError(f"policy: {source!r} is not a policy; give a file's path, builtin:NAME, a Policy or None for the default")
    reader = _Reader()
    policy, problems = reader.read(source)
    if policy is None:
        raise PolicyError(errors(problems), reader.sources)
    return policy


def read_policy(source: str | os.PathLike[str] | None = None) -> tuple[Policy | None, list[Problem]]:
    """The policy (None when it is too broken to make one) and all its problems, errors and warnings, by place."""
    return _Reader().read(source)


def parse_policy(text: str | bytes, name: str = "policy.yaml") -> tuple[Policy | None, list[Problem]]:
    """The same for a policy given as text; its relative names are relative to the working directory."""
    from .yamlio import parse

    reader = _Reader()
    raw = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    reader.document(parse(raw, name, reader.problems.append), name, Path(), ())
    return reader.finish(name)


class _Reader:
    """Reads a file and its includes into one list of rules; own rules come before included ones."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.rules: list[Rule] = []
        self.agents: list[tuple[Agent, Place]] = []
        self.networks: dict[str, Network] = {}
        self.top: dict[str, Any] = {}
        self.sources: list[str] = []
        self.broken: set[str] = set()

    def read(self, source: str | os.PathLike[str] | None) -> tuple[Policy | None, list[Problem]]:
        """Everything, from the file's name on."""
        name = os.fspath(source) if source is not None else "builtin:default"
        self.file(name, Place(name), ())
        return self.finish(name)

    def file(self, name: str, place: Place, chain: tuple[str, ...]) -> None:
        """Read one file by its name: ``builtin:NAME`` or a path."""
        path = self._path(name, place)
        if path is None:
            return
        key = str(path.resolve())
        if key in chain:
            self.problems.append(problem("CG011", place, f"{name} includes itself", "remove one include of the circle"))
            return
        if escape(key) in self.sources:
            return  # reached by two ways: once is enough
        self.sources.append(escape(key))
        self.document(self._node(name, path), name, path.parent, (*chain, key))

    def _node(self, name: str, path: Path) -> Node | None:
        if name.startswith(BUILTIN):
            return catalogue.bundled_policy(path.stem, name)
        from .yamlio import read_document

        return read_document(path, name, self.problems.append)

    def _path(self, name: str, place: Place) -> Path | None:
        if not name.startswith(BUILTIN):
            return Path(name)
        known = catalogue.policy_names()
        if name[len(BUILTIN) :] in known:
            return catalogue.rules_dir() / "policies" / f"{name[len(BUILTIN) :]}.yaml"
        self.problems.append(problem("CG010", place, f"no bundled policy is called {name!r}", closest(name, [BUILTIN + n for n in known])))
        return None

    def document(self, node: Node | None, name: str, base: Path, chain: tuple[str, ...]) -> None:
        """Take over one file's content, then that of its includes."""
        if node is None:
            self.broken.add("file")
            return
        found = self._fields(node)
        for rule in found.get("rules") or ():
            self.rules.append(rule)
        for agent, place in found.get("agents") or ():
            self.agents.append((agent, place))
        for key, (network, place) in (found.get("networks") or {}).items():
            if key in self.networks:
                self.problems.append(problem("CG036", place, f"the network {key!r} is defined twice", "give one of them another name"))
            before = len(self.problems)
            self.networks[key] = filled = self._with_file(catalogue.fresh(network._replace(name=key, place=place)), base)
            if not filled.cidrs and not filled.asns and len(self.problems) == before:
                message = f"the network {key!r} holds no address"
                if filled.ranges:  # a doubt only: without the policy, the update would not know what to fetch
                    self.problems.append(
                        problem("CG030", place, message + " yet", "run crawlguard update to fetch its ranges", severity="warning")
                    )
                else:
                    self.problems.append(problem("CG030", place, message, "give it cidrs, asns, ranges, or a file with some"))
        for key in ("mode", "client_ip", "missing_data", "privacy"):
            if key in found:
                self.top.setdefault(key, found[key])
        if "robots" in found:
            self.top.setdefault("robots", self._with_existing(found["robots"], base))
        if "serve" in found:
            self.top.setdefault("serve", found["serve"])
        for key in ("asn", "country"):
            if key in found.get("data", {}):
                name_in_file, place = found["data"][key]
                self.top.setdefault(key, (str(base / name_in_file), place))
        if "store" in found:
            store: Store = found["store"]
            self.top.setdefault("store", store._replace(path=str(base / store.path)) if store.path else store)
        if "log" in found:
            log: Log = found["log"]
            self.top.setdefault("log", log if log.to in ("off", "logging") else log._replace(to=str(base / log.to)))
        self._includes(node, found, base, chain)

    def _fields(self, node: Node) -> dict[str, Any]:
        """The keys that are fine; a broken one has been reported, and hides none of the others' problems."""
        if node.kind != "map":
            DOCUMENT.read(node, self.problems.append)
            self.broken.add("file")
            return {}
        found: dict[str, Any] = {}
        for key, value in node.pairs:
            before = len(self.problems)
            if key.text == "version" and value.kind == "text" and value.text != str(VERSION):
                self.problems.append(
                    problem(
                        "CG008",
                        value.place,
                        f"this release knows version {VERSION} of the policy language, not {value.text[:20]!r}",
                        f"write version: {VERSION}, or install a newer crawlguard",
                    )
                )
            elif key.text == "rules" and value.kind == "list":
                found["rules"] = self._rules(value)
            else:
                read = DOCUMENT.read_fields(Node("map", node.place, pairs=[(key, value)]), self.problems.append)
                if read is not INVALID:
                    found |= read
            if len(self.problems) > before:
                self.broken.add(key.text)
        if not any(key.text == "version" for key, _ in node.pairs):
            self.problems.append(problem("CG006", node.place, "a policy has no 'version'", f"add version: {VERSION} as its first line"))
        return found

    def _rules(self, node: Node) -> list[Rule]:
        return [rule for rule in (RULE.read(item, self.problems.append) for item in node.items) if rule is not INVALID]

    def _includes(self, node: Node, found: dict[str, Any], base: Path, chain: tuple[str, ...]) -> None:
        own = len(self.rules)
        for item, place in _placed(node, "include", found):
            if item.startswith(BUILTIN):
                self.file(item, place, chain)
                continue
            pattern = os.path.join(escape(str(base)), item)
            matches = sorted(glob(pattern, recursive=True))
            if has_magic(pattern) or not matches:
                self.sources.append(os.path.abspath(pattern))  # a file that appears there changes the policy
            if not matches:
                advice = f"it is looked for in {os.path.abspath(base)}"
                self.problems.append(problem("CG010", place, f"the include {item!r} finds no file", advice))
                self.broken.add("include")
            for match in matches:
                self.file(match, place, chain)
        included = {rule.id for rule in self.rules[own:]}
        for rule_id, place in _placed(node, "disable", found):
            # A rule of a file that another include has brought in before stays: that one asked for it.
            if rule_id not in included and rule_id not in {rule.id for rule in self.rules[:own] if rule.place.file != node.place.file}:
                advice = closest(rule_id, sorted(included)) if included else "include a policy first"
                self.problems.append(problem("CG029", place, f"no included rule is called {rule_id!r}", advice))
        disabled = set(found.get("disable") or ())
        self.rules[own:] = [rule for rule in self.rules[own:] if rule.id not in disabled]

    def _with_file(self, network: Network, base: Path) -> Network:
        if not network.file:
            return network
        path = base / network.file
        self.sources.append(escape(str(path.resolve())))
        return network._replace(cidrs=network.cidrs + tuple(self._lines(path, network)))

    def _with_existing(self, robots: Robots, base: Path) -> Robots:
        if not robots.merge:
            return robots
        path = base / robots.merge
        self.sources.append(escape(str(path.resolve())))
        try:
            with path.open("rb") as file:
                return robots._replace(merge=str(path), existing=file.read(MAX_BYTES))
        except OSError as error:
            advice = "check the name and the permissions; it is the robots.txt that the site has now"
            self.problems.append(problem("CG001", robots.place, f"{path} cannot be read: {error.strerror or error}", advice))
            return robots

    def _lines(self, path: Path, network: Network) -> Iterator[str]:
        try:
            if path.stat().st_size > MAX_BYTES:
                self.problems.append(
                    problem("CG035", network.place, f"{path} is larger than {MAX_BYTES >> 20} MiB", "split it into several networks")
                )
                return
            lines = path.read_text("utf-8", "replace").splitlines()
        except OSError as error:
            self.problems.append(
                problem("CG001", network.place, f"{path} cannot be read: {error.strerror or error}", "check the name and the permissions")
            )
            return
        for number, line in enumerate(lines, 1):
            text = line.partition("#")[0].strip()
            if text:
                cidr = Cidr().read(Node("text", Place(str(path), number, 1), text), self.problems.append)
                if cidr is not INVALID:
                    yield cidr

    def finish(self, name: str) -> tuple[Policy | None, list[Problem]]:
        """The merged policy, checked as a whole."""
        policy = self._policy(name)
        # What is broken would make other things look wrong that are not.
        hidden = {i for part, ids in _HIDES.items() if part in self.broken for i in ids}
        hidden |= {"CG102"} if errors(self.problems) else set()
        self.problems += [p for p in check_policy(policy) if p.id not in hidden]
        self.problems.sort(key=lambda p: (p.file != name, p.file, p.line, p.column))
        policy.warnings = tuple(p for p in self.problems if p.severity == "warning")
        return (None if errors(self.problems) else policy), self.problems

    def _policy(self, name: str) -> Policy:
        top = self.top
        wanted = any(isinstance(part, c.NetworkIs) for rule in self.rules for part in walk(rule.when))
        networks = {**(catalogue.networks() if wanted else {}), **self.networks}
        policy = Policy(
            rules=tuple(self.rules),
            agents=catalogue.agents() + tuple(self._own_agents()),  # the very same tuple if there are no others
            networks=networks,
            name=name,
            sources=tuple(dict.fromkeys((*self.sources, *map(escape, datadir.files())))),
            **{k: top[k] for k in ("mode", "client_ip", "missing_data", "store", "log", "robots", "serve") if k in top},
        )
        policy.addresses = top.get("privacy", {}).get("addresses", "full")
        policy.asn, policy.country = (self._database(k, policy) for k in ("asn", "country"))
        policy.sources += tuple(escape(f) for f in (policy.asn, policy.country) if f)
        return policy

    def _own_agents(self) -> list[Agent]:
        taken = {a.name.lower() for a in catalogue.agents()} if self.agents else set()
        for agent, place in self.agents:
            if agent.name.lower() in taken:
                self.problems.append(problem("CG036", place, f"the agent {agent.name!r} is defined already", "give it another name"))
            taken.add(agent.name.lower())
        return [agent for agent, _ in self.agents]

    def _database(self, kind: str, policy: Policy) -> str | None:
        if kind not in self.top:
            return None
        path, place = self.top[kind]
        complaint = probe(path, kind)
        if not complaint:
            return str(path)
        severity = "warning" if policy.missing_data == "inactive" else "error"
        advice = f"check the name, fetch the database again, or remove it from data: (looked for at {os.path.abspath(path)})"
        self.problems.append(problem("CG028", place, f"the {kind} database {path} {complaint}", advice, severity=severity))
        return None if severity == "warning" else str(path)


def _placed(node: Node, key: str, found: dict[str, Any]) -> list[tuple[str, Place]]:
    """The values of a key that was read as a list, each with its place."""
    values = next((v for k, v in node.pairs if k.text == key), None)
    if values is None or key not in found:
        return []
    nodes = values.items if values.kind == "list" else [values]
    return list(zip(found[key], (n.place for n in nodes), strict=True))
