"""The whole story on one machine: a site behind nginx, real visitors of every kind, and what the analyzer makes of the log.

``python -m tests.story --keep DIR`` leaves ``access.log`` and ``who.json`` (address -> who it really was) in DIR.

Every visitor comes from a loopback address of its own; 127.0.0.0/8 has 65,536 networks of /24 for them. The programs are the real ones.
People's browsers click links as people do, but do not stop to read: the log spans seconds, where a site's spans weeks. It is left as
nginx wrote it.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from types import TracebackType

from .browsers import Browsers
from .server import free_port, guarded, nginx
from .site import build
from .visitors import ALL, Visitor, visit

_LINE = re.compile(r'^(\S+) \S+ \S+ \[[^]]+\] "\S+ (\S+) [^"]*" ([0-9]{3}) ', re.MULTILINE)
"""Address, path and status of a line; the visitors send nothing that nginx would have to escape."""
_NOT_GUARDED = re.compile(r"/robots\.txt$|\.(css|js|png|ico)$")
"""What nginx serves itself, or the guard always."""


class Story:
    """The site in a directory, and what happens there: each visit leaves a log of its own. Used in a ``with``: browsers run until its end."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.port, self.browsers = directory, free_port(), Browsers(directory)
        build(directory / "site")

    def __enter__(self) -> Story:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        self.browsers.end()

    def unguarded(self) -> Path:
        """Everybody visits the site as nginx serves it. The access log."""
        with nginx(self.directory / "nginx", self.directory / "site", self.port) as log:
            visit(self.port, self.directory / "first", self.browsers)
        return log

    def guarded(self, policy: Path) -> tuple[Path, Path]:
        """Everybody comes again, for fewer pages, and the site is guarded. The access log, which goes on, and the decision log."""
        home, site = self.directory / "nginx", self.directory / "site"
        with guarded(home, site, policy) as decisions, nginx(home, site, self.port, in_front=True) as log:
            visit(self.port, self.directory / "second", self.browsers, pages=2)
        return log, decisions


def met(log: Path) -> dict[Visitor, Counter[str]]:
    """How many of each visitor's requests that the guard decides about were ``served`` and ``refused``, by an access log."""
    by_address = {address: visitor for visitor in ALL for address in visitor.addresses}
    found = {visitor: Counter[str]() for visitor in ALL}
    for address, path, status in _LINE.findall(log.read_text("ascii")):
        if not _NOT_GUARDED.search(path):
            found[by_address[address]]["served" if int(status) < 400 else "refused"] += 1
    return found


def who() -> dict[str, dict[str, str]]:
    """Each address, and who really comes from there: ``name`` and ``class`` (in the words of the analyzer)."""
    return {address: {"name": visitor.name, "class": visitor.kind} for visitor in ALL for address in visitor.addresses}
