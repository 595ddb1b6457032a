"""The reviewed file: a policy that proposals are appended to, and that people edit. Text is added or cut out, never written anew.

What a change must come to is settled first, and the new text is read by the guard's own reader before it is written: it holds the rules that
were there, in their order, without those pruned, and then the new ones; or nothing is written.
"""

from __future__ import annotations

import difflib
import os
import re
import stat
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date
from glob import escape
from pathlib import Path

import click

from crawlguard.console import DEFAULT_FILE
from crawlguard.errors import DataError
from crawlguard.loader import parse_policy
from crawlguard.paths import MAX_BYTES
from crawlguard.policy.model import Policy, Rule

from ..report.words import plain
from .proposal import Proposal
from .written import meaning

PROPOSED = "crawlguard-proposed.yaml"
MARK = "# Written by crawlguard propose --apply, format 1: rules to look through. Edit them freely; further ones go to the end."
HEAD = f"""{MARK}
# They watch only, until you take out "mode: shadow". They take part once the live policy names this file, last:
#   include: [builtin:default, {PROPOSED}]
version: 1
rules:
"""
_EMPTY = re.compile(r"^rules:[ \t]*\[[ \t]*\][ \t\r]*(#.*)?$", re.MULTILINE)
_EXPIRES = re.compile(r"^\s*# expires: ([0-9]{4}-[0-9]{2}-[0-9]{2})\s*$")
_PROPOSED = re.compile(r"^\s*# proposed: ")


@dataclass(frozen=True, slots=True)
class Reviewed:
    """A reviewed file as it is. ``text`` is None when it is not there yet. ``expires``: the dates of the rules that have one, by id."""

    path: Path
    text: str | None
    rules: tuple[Rule, ...]
    expires: dict[str, date]

    def expired(self, today: date) -> list[str]:
        """The ids of rules whose date has passed."""
        return [rule.id for rule in self.rules if rule.id in self.expires and self.expires[rule.id] < today]


@dataclass(frozen=True, slots=True)
class Change:
    """What would be written: the ids that are new, there already, and cut out."""

    before: Reviewed
    text: str
    added: tuple[str, ...]
    skipped: tuple[str, ...]
    pruned: tuple[str, ...]


def read_reviewed(name: str, live: Policy) -> Reviewed:
    """The file to append to. Raises DataError when it is the live policy, or any file that was not made here, or is broken."""
    path = Path(os.path.realpath(name))
    if path == Path(os.path.realpath(live.name)) or path.name == DEFAULT_FILE:
        raise DataError(f"{name}: is the live policy, which propose never writes to; name another file, for example {PROPOSED}")
    try:
        if path.is_file() and path.stat().st_size > MAX_BYTES:
            raise DataError(f"{name}: is larger than a policy may be; prune it, or name another file")
        text = path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        return Reviewed(path, None, (), {})
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{name}: cannot be read ({getattr(error, 'strerror', None) or 'not UTF-8'}); name another file") from None
    if MARK not in text.splitlines()[:20]:
        raise DataError(f"{name}: was not made by propose, which writes to no other files; name a new one, for example {PROPOSED}")
    rules = _rules(text, name)
    lines = text.splitlines()
    return Reviewed(path, text, rules, {rule.id: when for rule in rules if (when := _expiry(lines, rule))})


def _rules(text: str, name: str) -> tuple[Rule, ...]:
    policy, problems = parse_policy(text, name)
    if policy is None:  # a rule by ASN needs the live policy's database, which is not known here
        policy, again = parse_policy(f"{text}\nmissing_data: inactive\n", name)
        problems = problems if again else again
    if policy is None:
        wrong = next(p for p in problems if p.severity == "error")
        raise DataError(f"{name}:{wrong.line}: {wrong.message}; mend it first (crawlguard check {name})")
    return tuple(rule for rule in policy.rules if rule.place.file == name)


def _comment(lines: Sequence[str], rule: Rule) -> int:
    """Where the comments right above a rule begin."""
    at = rule.place.line - 1
    while at and lines[at - 1].lstrip().startswith("#"):
        at -= 1
    return at


def _expiry(lines: Sequence[str], rule: Rule) -> date | None:
    for line in lines[_comment(lines, rule) : rule.place.line - 1]:
        if found := _EXPIRES.match(line):
            try:
                return date.fromisoformat(found[1])
            except ValueError:
                return None
    return None


def change(before: Reviewed, proposals: Sequence[Proposal], prune: Collection[str] = ()) -> Change:
    """The new text: without the rules to ``prune`` (ids), and with the proposals that are not there already. Raises DataError."""
    text = HEAD if before.text is None else before.text
    pruned = tuple(rule.id for rule in before.rules if rule.id in prune and _span(text.splitlines(), rule))
    kept = tuple(rule for rule in before.rules if rule.id not in pruned)
    there = {rule.id for rule in kept}
    new = [one for one in proposals if one.id not in there]
    text = _without(text, [rule for rule in before.rules if rule.id in pruned])
    if new:
        text = _EMPTY.sub("rules:", text)
        text = _appended(text, new)
    elif not kept:
        text = re.sub(r"^rules:[ \t]*$", "rules: []", text, flags=re.MULTILINE)
    made = Change(before, text, tuple(one.id for one in new), tuple(one.id for one in proposals if one.id in there), pruned)
    _check(made, kept, new)
    return made


def _appended(text: str, new: Sequence[Proposal]) -> str:
    end = "\r\n" if "\r\n" in text else "\n"
    added = "".join(f"\n{one.yaml}" for one in new).replace("\n", end)
    return text + ("" if text.endswith("\n") else end) + added


def _without(text: str, rules: Sequence[Rule]) -> str:
    lines = text.splitlines(keepends=True)
    spans = [span for rule in rules if (span := _span(lines, rule))]
    gone = {at for first, end in spans for at in range(first, end)}
    return "".join(line for at, line in enumerate(lines) if at not in gone)


def _span(lines: Sequence[str], rule: Rule) -> tuple[int, int] | None:
    """The lines of a rule that was proposed, from the comment that says so to the end of its item; None for a rule of somebody else."""
    start = rule.place.line - 1
    first = next((at for at in range(_comment(lines, rule), start) if _PROPOSED.match(lines[at])), None)
    dash = lines[start].find("-")
    if first is None or dash < 0:
        return None
    last = start
    for at in range(start + 1, len(lines)):
        bare = lines[at].lstrip()
        if bare and not bare.startswith("#"):
            if len(lines[at]) - len(bare) <= dash:
                break
            last = at
    end = last + 1
    return first, end + 1 if end < len(lines) and not lines[end].strip() else end


def _check(made: Change, kept: Sequence[Rule], new: Sequence[Proposal]) -> None:
    """Raises DataError when the new text is not what it should be."""
    name = str(made.before.path)
    found = _rules(made.text, name)
    same = [_whole(rule) for rule in found[: len(kept)]] == [_whole(rule) for rule in kept]
    fresh = [(rule.id, rule.mode) for rule in found[len(kept) :]] == [(one.id, "shadow") for one in new]
    if not (same and fresh):
        raise DataError(f"{name}: its rules cannot be added to safely; move 'rules:' to its end, or name another file")


def _whole(rule: Rule) -> tuple[object, ...]:
    return rule.id, rule.mode, rule.reason, meaning(rule.when), tuple(rule.then)[1:]


def diff(made: Change) -> str:
    """The change as a unified diff with three lines around, in colour."""
    old, name = made.before.text or "", made.before.path.name
    before = name if made.before.text is not None else "/dev/null"
    lines = difflib.unified_diff(old.splitlines(), made.text.splitlines(), before, name, lineterm="")
    return "\n".join(map(_coloured, lines))


def _coloured(line: str) -> str:
    colour = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1])
    shown = plain(line, 4096)
    return click.style(shown, fg=colour) if colour and not line.startswith(("+++", "---")) else shown


def write(made: Change) -> None:
    """Put the new text in the file's place, whole or not at all. Raises DataError, also when somebody has edited the file meanwhile."""
    path = made.before.path
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        mode = stat.S_IMODE(path.stat().st_mode) if made.before.text is not None else 0o644
        with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(made.text.encode())
            file.flush()
            os.fsync(file.fileno())
        if (path.read_bytes().decode() if path.exists() else None) != made.before.text:
            raise DataError(f"{path}: was edited while you looked at the changes; run the command again")
        os.replace(partial, path)
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror}); check the directory and its permissions") from None
    finally:
        partial.unlink(missing_ok=True)


def include_line(live: Policy, path: Path) -> str:
    """What to write in the live policy so that the reviewed file takes part: last, so that all other rules are asked first."""
    if live.name.startswith("builtin:"):
        return f"include: [{live.name}, {path.name}]"
    home = Path(os.path.realpath(live.name)).parent
    near = home.parts[:2] == path.parts[:2]  # they share more than the root: from /etc to /var nobody wants to climb
    return f"include: [..., {os.path.relpath(path, home) if near else path}]"


def takes_part(live: Policy, path: Path) -> bool:
    """Whether the live policy includes the file already."""
    return escape(str(path)) in live.sources
