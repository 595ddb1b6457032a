"""Everything that crawlguard raises on purpose, and the shape of one problem in a policy.

    CrawlGuardError
    ├── PolicyError      a policy cannot be used; carries every problem found, not only the first
    ├── ConfigError      a setting of a middleware or of the command line is wrong
    └── DataError        a data file (address database, range list, rate table) cannot be used

None of these reaches a visitor: they are raised while loading, never while a request is decided.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong (or doubtful) in a policy, with its place and the cure.

    ``line`` and ``column`` count from 1; both are 0 when the problem has no place in a file. ``id`` is stable (``CG012``).
    """

    id: str
    message: str
    advice: str
    file: str = ""
    line: int = 0
    column: int = 0
    severity: str = "error"

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}: " if self.line else (f"{self.file}: " if self.file else "")
        return f"{place}{self.severity} {self.id}: {self.message}\n    {self.advice}"


class CrawlGuardError(Exception):
    """Base of all errors that crawlguard raises on purpose."""


class PolicyError(CrawlGuardError):
    """A policy cannot be used. ``problems`` holds all that was found, in the order of their places.

    ``sources`` are the files and globs that were read: an edit of one of them may mend it.
    """

    def __init__(self, problems: Iterable[Problem], sources: Iterable[str] = ()) -> None:
        self.problems: tuple[Problem, ...] = tuple(problems)
        self.sources: tuple[str, ...] = tuple(sources)
        super().__init__("\n".join(map(str, self.problems)))


class ConfigError(CrawlGuardError):
    """A setting given in code or on the command line is wrong; the message names it and says what to write."""


class DataError(CrawlGuardError):
    """A data file cannot be read or is not what it should be; the message names the file and the cure."""
