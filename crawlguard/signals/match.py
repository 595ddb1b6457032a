"""Text conditions: ``is``, ``prefix``, ``suffix``, ``contains``, ``regex``, and paths as robots.txt writes them.

Regular expressions go through RE2 alone, which cannot backtrack. It comes with ``crawlguard[regex]``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from urllib.parse import unquote

# Room for RE2's automata. Past it RE2 gives up on a set, so it is generous; it is filled only as far as patterns need.
RE2_MEMORY = 64 << 20


def has_regex() -> bool:
    """Whether RE2 is installed; without it ``check`` turns every regex into an error that names the extra."""
    return find_spec("re2") is not None


class RegexSet:
    """Several RE2 patterns asked in one pass. Raises ValueError, with RE2's own words, for a pattern that it refuses."""

    __slots__ = ("_set",)

    def __init__(self, patterns: Sequence[str]) -> None:
        import re2  # the extra ``regex``: a policy without a regex never imports it

        options = re2.Options()
        options.log_errors = False
        options.max_mem = RE2_MEMORY
        self._set = re2.Set.SearchSet(options)
        for pattern in patterns:
            try:
                self._set.Add(pattern)
            except re2.error as error:
                raise ValueError(_words(error)) from None
        self._set.Compile()

    def find(self, text: bytes) -> list[int]:
        """The numbers of the patterns that occur in ``text`` (bytes: RE2 raises on lone surrogates)."""
        return self._set.Match(text) or []


def check_regex(pattern: str) -> str | None:
    """None when RE2 takes the pattern, else its complaint."""
    import re2

    options = re2.Options()
    options.log_errors = False
    try:
        re2.compile(pattern, options)
    except re2.error as error:
        return _words(error)
    return None


def _words(error: Exception) -> str:
    message = error.args[0] if error.args else error
    return message.decode("utf-8", "replace") if isinstance(message, bytes) else str(message)


def text_test(kind: str, values: Sequence[str], *, fold: bool) -> Callable[[str], bool]:
    """A test of one text against several values of one kind; ``fold`` compares without case (but never a regex)."""
    wanted = tuple(v.lower() if fold and kind != "regex" else v for v in values)
    if kind == "regex":
        patterns = RegexSet(wanted)
        return lambda text: bool(patterns.find(text.encode("utf-8", "replace")))
    if kind == "is":
        exact = frozenset(wanted)
        plain: Callable[[str], bool] = exact.__contains__
    elif kind == "prefix":
        plain = lambda text: text.startswith(wanted)  # noqa: E731
    elif kind == "suffix":
        plain = lambda text: text.endswith(wanted)  # noqa: E731
    else:
        plain = lambda text: any(w in text for w in wanted)  # noqa: E731
    return (lambda text: plain(text.lower())) if fold else plain


def path_test(patterns: Sequence[str]) -> Callable[[str], bool]:
    """A test of a decoded path against robots.txt patterns (RFC 9309 2.2.3): a prefix, ``*`` for anything, ``$`` for the end.

    Percent-encoding in a pattern means what it decodes to (2.2.2), so ``%2A`` and ``%24`` are a plain star and dollar.
    """
    prefixes = tuple(unquote(p) for p in patterns if "*" not in p and not p.endswith("$"))
    exact = frozenset(unquote(p[:-1]) for p in patterns if "*" not in p and p.endswith("$"))
    wild = [_wildcard(p) for p in patterns if "*" in p]

    def test(path: str) -> bool:
        return path.startswith(prefixes) or path in exact or any(w(path) for w in wild)

    return test


def _wildcard(pattern: str) -> Callable[[str], bool]:
    anchored = pattern.endswith("$")
    first, *pieces = map(unquote, (pattern[:-1] if anchored else pattern).split("*"))
    last = pieces.pop() if anchored else None
    return lambda path: in_order(path, first, pieces, last)


def in_order(text: str, first: str, pieces: Sequence[str], last: str | None) -> bool:
    """Whether a text begins with ``first``, holds the pieces after it in their order, and (if not None) ends with ``last`` after those.

    Greedy from the left, the last from the right: linear, never a regex.
    """
    if not text.startswith(first):
        return False
    at = len(first)
    for piece in pieces:
        at = text.find(piece, at)
        if at < 0:
            return False
        at += len(piece)
    return last is None or (len(text) - len(last) >= at and text.endswith(last))
