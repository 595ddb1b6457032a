"""``crawlguard ban``: who is kept out of a running site now, and the operator's own word on it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any

import click

from ..console import JSON_OPTION, default_policy, emit
from ..console import table as columns
from ..errors import DataError
from .live_store import answering, open_live

if TYPE_CHECKING:
    from ..guard import Guard
    from ..lifting import Network
    from ..policy.model import Policy
    from ..store import RateStore
    from ..store.bans import Bans, Record

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_LONGEST = 31 * 86_400
_WIDEST = {4: 8, 6: 19}
"""The shortest prefixes that are banned without --force: what an internet registry has for all of a region."""


@click.group()
def command() -> None:
    """See and change who is kept out of a running site.

    Every worker heeds it with its next request; with a store of many hosts all of them do, within a second.
    """


def _where(made: Callable[..., None]) -> Callable[..., None]:
    for option in (
        click.option(
            "--table",
            metavar="FILE|URL",
            default="",
            help="The workers' table itself, instead of looking for it; or the URL of their server.",
        ),
        click.option("--counts-as", default="", help="What the application gives as counts_as."),
        click.option("--cwd", metavar="DIR", default="", help="The directory that the workers were started in. Default: this one."),
        JSON_OPTION,
    ):
        made = option(made)
    return made


@command.command("list")
@click.argument("policy", required=False)
@_where
def list_(policy: str | None, table: str, counts_as: str, cwd: str, as_json: bool) -> None:
    """List who is kept out now: by which rule or by hand, since when, until when, and how often."""
    from ..lifting import standing

    guard, record = _open(policy, cwd, counts_as, table)
    now = _now()
    with answering(guard):
        bans = [as_row(one, now) for one in standing(record, guard.live, guard.store, now)]
    if as_json:
        emit({"policy": guard.policy.name, "table": _place(guard.store), "bans": bans})
        return
    show(bans)


@command.command()
@click.argument("target", metavar="ADDRESS|CIDR")
@click.argument("policy", required=False)
@click.option("--for", "term", default="1h", show_default=True, metavar="TIME", help="How long: 30s, 10m, 1h, 7d; 31 days at most.")
@click.option("--reason", default="", help="For the decision log and for the refused client.")
@click.option("--force", is_flag=True, help="Ban private addresses, trusted proxies and whole regions too.")
@_where
def add(target: str, policy: str | None, term: str, reason: str, force: bool, table: str, counts_as: str, cwd: str, as_json: bool) -> None:
    """Keep an address or a network out. An IPv6 address stands for its /64, which is one client; write /128 for it alone."""
    from ..bans import BY_HAND
    from ..store.bans import REASON, Record, network_key

    network, length = _network(target), _seconds(term)
    if len(reason.encode("utf-8", "replace")) > REASON or not (reason.isprintable() and _encodes(reason)):
        raise click.BadParameter(f"write one line of at most {REASON} bytes, without control characters", param_hint="--reason")
    guard, record = _open(policy, cwd, counts_as, table)
    if not force:
        _refuse(network, guard.policy.client_ip.trusted_proxies)
    now, packed = _now(), network.network_address.packed
    key = network_key(record.seed, packed, network.prefixlen)
    until = now + length * 1_000_000
    one = Record(key, 0, now, until, 0, len(packed), network.prefixlen, _who(guard, network), BY_HAND, reason)
    with answering(guard):
        if not record.put(one, now, patience=2):
            raise DataError("another process keeps writing to the record of bans; try again, and end that process if it has been stopped")
    written = next((r for r in record.all(by_hand=True) if r.key == key), None)
    if written is None:
        raise DataError(f"the ban of {network} is not in the record: somebody else has changed it just now; try again")
    if as_json:
        emit({"policy": guard.policy.name, "ban": as_row(written, now)})
        return
    click.echo(f"{click.style('banned', fg='red')} {network} until {_clock(until, now)}")


@command.command()
@click.argument("target", metavar="[ADDRESS|CIDR|WHO]", required=False)
@click.argument("policy", required=False)
@click.option("--all", "everybody", is_flag=True, help="All bans, of rules and by hand.")
@click.option("--forget", is_flag=True, help="Forget earlier offences too: growing terms start with the first again.")
@_where
def lift(
    target: str | None, policy: str | None, everybody: bool, forget: bool, table: str, counts_as: str, cwd: str, as_json: bool
) -> None:
    """Let an address or a network in again, whichever rules keep it out; or whom ``ban list`` names in other words.

    Bans inside a network that is named are lifted with it; an address under the ban of a whole network is not let in alone.
    """
    from ..lifting import lift as lifted_by

    if everybody and policy is None:
        target, policy = None, target
    if everybody == (target is not None):
        raise click.UsageError("name an address, a network or whom the list names; or --all")
    wanted = None if target is None else _network(target, words=True)
    guard, record = _open(policy, cwd, counts_as, table)
    now = _now()
    with answering(guard):
        lifted = lifted_by(record, guard.live, guard.store, wanted, now, forget)
    above = None if wanted is None or isinstance(wanted, str) else guard.bans.of(wanted.network_address.packed, now)
    if as_json:
        emit(
            {"policy": guard.policy.name, "lifted": [one._asdict() for one in lifted], "still_under": as_row(above, now) if above else None}
        )
    else:
        for one in lifted:
            click.echo(f"{click.style('lifted', fg='green')} {_shown(one.who)} ({_shown(one.rule)})")
    if above is not None:
        raise DataError(f"{target} is still under the ban of {above.who} by hand; lift that one")
    if not lifted and not everybody:
        raise DataError(f"{target}: no ban keeps it out")


def _open(policy: str | None, cwd: str, counts_as: str, table: str) -> tuple[Guard, Bans]:
    guard = open_live(policy or default_policy(), cwd, counts_as, table)
    if guard.bans.record is None:  # open_live has seen to it
        raise DataError("there is no shared table")
    return guard, guard.bans.record


def _place(store: RateStore) -> str:
    """Where a store is: the file, or the name of the server."""
    return str(getattr(store, "path", "")) or str(getattr(getattr(store, "link", None), "name", ""))


def running(policy: Policy) -> Guard | None:
    """A guard on the store of the running site; None where no workers run or their table cannot be opened.

    Raises DataError when it lies on a server that does not answer.
    """
    from ..errors import CrawlGuardError

    try:
        return open_live(policy)
    except CrawlGuardError:
        if policy.store.url:
            raise
        return None


def of_client(guard: Guard, packed: bytes) -> list[dict[str, Any]]:
    """The bans that keep an address out of the running site, as rows. Raises DataError when its server does not answer."""
    from ..lifting import keeps_out

    now = _now()
    with answering(guard):
        return [as_row(one, now) for one in keeps_out(guard.bans, guard.live, guard.store, packed, now)]


def as_row(one: Record, now: int) -> dict[str, Any]:
    """A ban as plain data for JSON; times as UTC, and ``left`` in whole seconds."""
    return {
        "who": one.who,
        "rule": one.rule,
        "by_hand": one.by_hand,
        "since": _clock(one.since, now),
        "until": _clock(one.until, now),
        "left": max(0, one.until - now) // 1_000_000,
        "times": one.times,
        "reason": one.reason,
    }


def show(bans: list[dict[str, Any]]) -> None:
    """The rows for eyes."""
    if not bans:
        click.echo("nobody is kept out")
        return
    rows = [
        [_shown(b["who"]), "by hand" if b["by_hand"] else _shown(b["rule"]), b["since"], b["until"], str(b["times"]), _shown(b["reason"])]
        for b in bans
    ]
    click.echo(columns(rows, ["who", "rule", "since", "until", "times", "reason"], {"by hand": "yellow"}))


def _shown(text: str) -> str:
    from ..export.lint_table import shown

    return shown(text)


def _now() -> int:
    return time.monotonic_ns() // 1000


def _clock(at: int, now: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + (at - now) / 1e6))


def _seconds(text: str) -> int:
    found = re.fullmatch(r"([0-9]{1,9})([smhdw])", text, re.ASCII)
    value = int(found[1]) * _UNITS[found[2]] if found else 0
    if not 1 <= value <= _LONGEST:
        raise click.BadParameter(f"{text!r} is not a time from 1s to 31d; write for example 30s, 10m, 1h or 7d", param_hint="--for")
    return value


def _encodes(text: str) -> bool:
    return not any("\ud800" <= c <= "\udfff" for c in text)


def _network(text: str, words: bool = False) -> Any:
    """The network that is named; with ``words`` the text itself when it names none."""
    from ..client_ip import format_ip, parse_ip

    packed = parse_ip(text)
    try:
        if packed is not None:
            return ip_network(f"{format_ip(packed[:8] + bytes(8))}/64") if len(packed) == 16 else ip_network(format_ip(packed))
        network = ip_network(text)
        mapped = network.network_address.ipv4_mapped if network.version == 6 and network.prefixlen >= 96 else None
        return network if mapped is None else ip_network(f"{mapped}/{network.prefixlen - 96}")
    except ValueError as error:
        if words and not re.match(r"[0-9a-fA-F:.]+(/|$)", text):
            return text
        cure = f"write {ip_network(text, strict=False)}" if "host bits" in str(error) else "write for example 203.0.113.7 or 2001:db8::/48"
        raise click.BadParameter(f"{text!r} is not an address or a network ({error}); {cure}") from None


def _refuse(network: Network, proxies: tuple[str, ...]) -> None:
    """Say what is hardly meant: it would shut out the site's own machines, or half of the world."""
    from ..client_ip import PRIVATE

    if network.prefixlen < _WIDEST[network.version]:
        raise click.BadParameter(f"{network} is a large part of the internet; if you mean it, add --force")
    for kind, ranges in (
        ("trusted proxies", [p for p in proxies if p not in ("unix", "private")]),
        ("loopback and private addresses", PRIVATE),
    ):
        hit = next((r for r in map(ip_network, ranges) if r.version == network.version and r.overlaps(network)), None)
        if hit is not None:
            raise click.BadParameter(f"{network} touches {hit}, of the {kind}; if you mean it, add --force")


def _who(guard: Guard, network: Network) -> str:
    """The words for a network in the record: no closer than the policy's privacy allows."""
    privacy = guard.events.privacy
    one = 24 if network.version == 4 else 48
    if privacy.addresses == "full" or (privacy.addresses == "subnet" and network.prefixlen <= one):
        return str(network.network_address) if network.prefixlen == network.max_prefixlen else str(network)
    shown = privacy.show(network.network_address.packed) or ""
    return shown if privacy.addresses == "subnet" else f"{shown}/{network.prefixlen}"
