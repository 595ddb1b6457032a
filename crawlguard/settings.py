"""The settings that can be given in code, checked as strictly as a policy's. They win over the policy."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, TypedDict, Unpack

from .client_ip import ClientResolver
from .errors import ConfigError
from .policy.model import ClientIp, Log, Policy, Store
from .policy.urls import parse_url


class Settings(TypedDict, total=False):
    """What can be set in code; it wins over the policy. ``log`` is "off", "logging" or a file; ``log_sample`` a share of 1.

    ``store`` is "shared", "memory", or the URL of a server that many hosts count on (``policy.urls``).
    """

    mode: Literal["enforce", "shadow"]
    trusted_proxies: str | Sequence[str]
    client_ip_header: str
    store: str | Store
    log: str | os.PathLike[str]
    log_sample: float
    addresses: Literal["full", "subnet", "keyed"]


SETTINGS = tuple(Settings.__annotations__)


def with_settings(policy: Policy, **settings: Unpack[Settings]) -> Policy:
    """A policy with some of its settings replaced from code. Raises ConfigError for a name that is none of SETTINGS."""
    unknown = sorted(set(settings) - set(SETTINGS))
    if unknown:
        raise ConfigError(f"no setting is called {unknown[0]!r}; there are: {', '.join(SETTINGS)}")
    return replace(policy, **_changes(policy, settings))


def _changes(policy: Policy, settings: Settings) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    for name, words in (("mode", ("enforce", "shadow")), ("addresses", ("full", "subnet", "keyed"))):
        if name in settings:
            changes[name] = _one_of(name, settings[name], words)  # type: ignore[literal-required]
    if "trusted_proxies" in settings or "client_ip_header" in settings:
        proxies = settings.get("trusted_proxies", policy.client_ip.trusted_proxies)
        if not isinstance(proxies, str | Sequence) or not all(isinstance(p, str) for p in proxies):
            raise ConfigError(f"trusted_proxies: {proxies!r} is not a list of addresses and CIDRs")
        proxies = (proxies,) if isinstance(proxies, str) else tuple(proxies)
        header = settings.get("client_ip_header", policy.client_ip.header)
        ClientResolver(proxies, header)
        changes["client_ip"] = ClientIp(proxies, header)
    if "store" in settings:
        store = settings["store"]
        changes["store"] = store if isinstance(store, Store) else _store(policy.store, store)
    if "log" in settings or "log_sample" in settings:
        to, sample = settings.get("log", policy.log.to), settings.get("log_sample", policy.log.sample)
        if not isinstance(to, str | os.PathLike) or not os.fspath(to):
            raise ConfigError(f"log: {to!r} is none of 'off', 'logging' and a file's path")
        if isinstance(sample, bool) or not isinstance(sample, int | float) or not 0 <= sample <= 1:
            raise ConfigError(f"log_sample: {sample!r} is not a share; write a number from 0 to 1")
        changes["log"] = Log(os.fspath(to), float(sample))
    return changes


def _store(of_policy: Store, text: object) -> Store:
    """The store of a word or a URL; of the policy's own, its size and place stay."""
    if isinstance(text, str) and "://" in text:
        found = parse_url(text)
        if isinstance(found, str):
            raise ConfigError(f"store: {found}")
        return of_policy._replace(url=text)
    return of_policy._replace(kind=_one_of("store", text, ("shared", "memory")), url="")


def _one_of(name: str, value: object, words: tuple[str, ...]) -> str:
    if value not in words:
        raise ConfigError(f"{name}: {value!r} is none of {', '.join(map(repr, words))}")
    return str(value)
