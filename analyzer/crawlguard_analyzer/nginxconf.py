"""The access logs of an nginx.conf and their formats: ``log_format`` and ``access_log``, through includes.

A small tokenizer and no library: crossplane (Apache-2.0), the one known, has had no release since 2022, and two directives need no more.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from crawlguard.errors import DataError

from .formats import Format, named
from .formats.strings import nginx

_TOKEN: Final = re.compile(r"""\s+|\#[^\n]*|(?P<sign>[{};])|"(?P<double>(?:[^"\\]|\\.)*)"|'(?P<single>(?:[^'\\]|\\.)*)'|(?P<bare>(?:\\.|\$\{|[^\s;{}"'\\])(?:\\.|\$\{[^}]*\}|[^\s;{\\])*)""", re.DOTALL)  # fmt: skip
_ESCAPE: Final = re.compile(r"\\(.)", re.DOTALL)
_ESCAPES: Final = {"t": "\t", "r": "\r", "n": "\n"}
DEEPEST: Final = 16
"""Includes within includes: enough for any real one, and an end for one that includes itself."""


class AccessLog(NamedTuple):
    """A file that nginx writes to, and how."""

    path: Path
    format: Format


class Directive(NamedTuple):
    words: tuple[str, ...]
    file: Path
    line: int


def log_formats(path: str | os.PathLike[str], client: str = "") -> list[AccessLog]:
    """Each access log of the configuration at ``path`` (nginx.conf), in order, once.

    Logs that are off, go to syslog or have a variable in their name are left out. ``client``: see ``formats.named``.
    Raises DataError when the file cannot be read, names no access log, or a format that no row can be had of.
    """
    main = Path(path)
    formats: dict[str, Format] = {"combined": named("combined")}
    strings: dict[str, tuple[str, Directive]] = {}
    logs: dict[Path, Directive] = {}
    for one in _directives(main, main.parent, 0):
        name, *words = one.words
        if name == "log_format" and len(words) > 1:
            parts = words[2:] if words[1].startswith("escape=") else words[1:]
            strings[words[0]] = "".join(parts), one
        elif name == "access_log" and words and words[0] != "off" and not words[0].startswith("syslog:") and "$" not in words[0]:
            logs.setdefault(_absolute(words[0], main), one)
    if not logs:
        raise DataError(f"{main}: no access_log in it that is a file; name the logs themselves")
    found = []
    for log, one in logs.items():
        name = next((word for word in one.words[2:] if "=" not in word), "combined")
        if name not in formats:
            if name not in strings:
                raise DataError(f"{one.file}:{one.line}: log_format {name} is not defined; give the nginx.conf that includes this file")
            try:
                formats[name] = nginx(strings[name][0], f"nginx log_format {name}", client)
            except DataError as error:
                raise DataError(f"{strings[name][1].file}:{strings[name][1].line}: {error}") from None
        found.append(AccessLog(log, formats[name]))
    return found


def _absolute(name: str, main: Path) -> Path:
    """Relative logs are below nginx's prefix, which on most systems is the parent of logs/, and is not known here."""
    return Path(name) if os.path.isabs(name) else main.parent / name


def _directives(path: Path, root: Path, depth: int) -> Iterator[Directive]:
    if depth > DEEPEST:
        raise DataError(f"{path}: includes go deeper than {DEEPEST}; does a file include itself?")
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}); give the path of nginx.conf (`nginx -t` shows it)") from None
    words: list[str] = []
    begun = 1
    for word, sign, line in _tokens(text, path):
        if not sign:
            begun = begun if words else line
            words.append(word)
            continue
        if sign == ";" and words:
            yield Directive(tuple(words), path, begun)
            if words[0] == "include" and len(words) == 2:
                for one in sorted(glob.glob(os.path.join(root, words[1]))):
                    yield from _directives(Path(one), root, depth + 1)
        words = []


def _tokens(text: str, path: Path) -> Iterator[tuple[str, str, int]]:
    """Words and signs, with their lines."""
    at, line = 0, 1
    while at < len(text):
        found = _TOKEN.match(text, at)
        if not found:
            raise DataError(f"{path}:{line}: not nginx's syntax, a quote is not closed; try `nginx -t`")
        quoted = found["double"] if found["double"] is not None else found["single"]
        if found["sign"]:
            yield "", found["sign"], line
        elif quoted is not None:
            yield _ESCAPE.sub(_unescaped, quoted), "", line
        elif found["bare"] is not None:
            yield _ESCAPE.sub(_unescaped, found["bare"]), "", line
        line += text.count("\n", at, found.end())
        at = found.end()


def _unescaped(found: re.Match[str]) -> str:
    """nginx takes the backslash off quotes, itself, t, r and n; before all else it stays."""
    if found[1] in _ESCAPES:
        return _ESCAPES[found[1]]
    return found[1] if found[1] in "\"'\\ ;{}" else found[0]
