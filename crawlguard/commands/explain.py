"""``crawlguard explain``: what a policy decides about one request, and what every rule says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from ..console import JSON_OPTION, POLICY_OPTION, default_policy, emit, table
from ..errors import DataError

if TYPE_CHECKING:
    from ..decision import Decision
    from ..policy.ruleset import Client, RuleVerdict, UaFacts


def _headers(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> list[tuple[bytes, bytes]]:
    found = []
    for value in values:
        name, colon, text = value.partition(":")
        if not colon or not name.strip():
            raise click.BadParameter(f"{value!r} is not a header; write 'Name: value'")
        found.append((name.strip().lower().encode("latin-1", "replace"), text.strip().encode("utf-8", "surrogateescape")))
    return found


def _address(ctx: click.Context, param: click.Parameter, value: str | None) -> bytes | None:
    from ..client_ip import parse_ip

    packed = parse_ip(value) if value is not None else None
    if value is not None and packed is None:
        raise click.BadParameter(f"{value!r} is not an IP address; write for example 203.0.113.7 or 2001:db8::7")
    return packed


@click.command(short_help="Show what a policy decides about a request, and why.")
@POLICY_OPTION
@click.option("--ua", metavar="TEXT", help="The User-Agent. Without it the request has none.")
@click.option(
    "--ip",
    metavar="ADDRESS",
    callback=_address,
    help="The client's address (the peer's, when a forwarding header is given). Without it the client is unknown.",
)
@click.option("--path", default="/", show_default=True, help="The path asked for.")
@click.option("--method", default="GET", show_default=True, help="The HTTP method.")
@click.option("--host", help="The Host header.")
@click.option("--header", "headers", multiple=True, metavar="'N: V'", callback=_headers, help="A header; may be repeated.")
@JSON_OPTION
def command(
    policy: str | None,
    ua: str | None,
    ip: bytes | None,
    path: str,
    method: str,
    host: str | None,
    headers: list[tuple[bytes, bytes]],
    as_json: bool,
) -> None:
    """Show what a policy decides about one request, and what every rule says.

    Rates start from nothing: the request is the first of its client. What the running site has counted of that client stands below.
    """
    from urllib.parse import unquote

    from ..client_ip import FORWARDING, format_ip
    from ..guard import Guard
    from ..loader import load_policy
    from ..request import RequestView
    from ..signals.headers import fingerprint
    from .ban import of_client, running
    from .counts import counts_of

    loaded = load_policy(policy or default_policy())
    guard = Guard(loaded, store="memory", log="off", watch=False)
    if ua is not None:
        headers = [(b"user-agent", ua.encode("utf-8", "surrogateescape")), *headers]
    if host is not None:
        headers = [(b"host", _host(host)), *headers]
    path, _, query = path.partition("?")
    path = unquote(path if path.startswith("/") else "/" + path)  # as a server hands it over
    view = RequestView(method.upper(), path, headers, format_ip(ip) if ip else "", query=query.encode("utf-8", "surrogateescape"))
    forwarded = any(name in FORWARDING or name == guard.policy.client_ip.header.lower().encode() for name, _ in headers)
    decision, verdicts, facts, client = guard.explain(view, guard.client_facts(ip) if not forwarded else None)
    told = _facts(guard, view, facts, client, fingerprint(view))
    bans: list[dict[str, Any]] = []
    counts: list[dict[str, Any]] = []
    try:
        site = running(loaded) if client.packed else None
        if site is not None and client.packed:
            bans, counts = of_client(site, client.packed), counts_of(site, view, client.packed)
    except DataError as error:  # what the policy says is worth as much without
        click.echo(f"{click.style('bans are not known:', fg='yellow')} {error}", err=True)
    if as_json:
        rules = [{"rule": v.rule, "verdict": v.verdict, "action": v.action, "shadow": v.shadow, "note": v.note} for v in verdicts]
        plain = decision.as_dict()
        emit(
            {
                "policy": guard.policy.name,
                "action": plain["action"],
                "rule": plain["rule"],
                "decision": plain,
                "facts": told,
                "rules": rules,
                "bans": bans,
                "counts": counts,
            }
        )
        return
    if bans:
        from .ban import show

        click.echo(f"{click.style('KEPT OUT', fg='red', bold=True)} of the running site now, whatever follows:")
        show(bans)
        click.echo()
    _show_decision(decision, told, verdicts)
    if ua is None and ip is None and not headers:
        click.echo("\nNobody in particular asked for this: --ua TEXT and --ip ADDRESS say who does.", err=True)
    if counts:
        rows = [[c["rule"], ", ".join(c["per"]), f"{c['used']} of {c['limit']} {c['counts']}", f"{c['within']:g} s"] for c in counts]
        click.echo(f"\n  counted by the running site so far\n{table(rows, ['rule', 'per', 'used', 'within'])}")


def _host(name: str) -> bytes:
    try:
        return name.encode("ascii" if name.isascii() else "idna")
    except UnicodeError:
        raise click.BadParameter(f"{name!r} is not a host name") from None


def _facts(guard: Any, view: Any, ua: UaFacts, client: Client, mark: str) -> dict[str, Any]:
    from ..client_ip import format_ip

    names = [name for name, bit in guard.ruleset.networks.items() if client.mask & bit]
    agents = [{"name": a.name, "operator": a.operator, "category": a.category, "ai": a.ai, "docs": a.docs} for a in ua.agents]
    return {
        "agent": agents[0] if agents else None,
        "agents": agents,
        "client": format_ip(client.packed) if client.packed else None,
        "networks": names,
        "asn": client.asn or None,
        "country": client.country or None,
        "method": view.method,
        "host": view.host or None,
        "path": view.path,
        "fingerprint": mark,
    }


_COLOURS = {
    "allow": "green", "block": "red", "throttle": "yellow", "hide": "red", "price": "yellow",
    "matched": "cyan", "unknown": "yellow", "inactive": "yellow", "not reached": "bright_black",
}  # fmt: skip


def _show_decision(decision: Decision, facts: dict[str, Any], verdicts: Sequence[RuleVerdict]) -> None:
    action = str(decision.action)
    head = click.style(action.upper(), fg=_COLOURS[action], bold=True)
    wait = f", retry after {decision.retry_after} s" if decision.retry_after is not None else ""
    by = f" by {click.style(decision.rule, bold=True)} (HTTP {decision.status}{wait})" if decision.rule else ""
    click.echo(f"{head}{by}: {decision.reason}")
    for one in decision.shadow:
        click.echo(f"  shadow: would {one.action} by {one.rule}: {one.reason}")
    if decision.tags or decision.score:
        click.echo(f"  tags: {', '.join(decision.tags) or '-'}   score: {decision.score}")
    agent = facts["agent"]
    who = f"{agent['name']} ({agent['operator']}, {agent['category']})" if agent else "nobody in the catalogue"
    click.echo(f"\n  agent    {who}")
    click.echo(f"  client   {facts['client'] or 'unknown'}" + "".join(f"  {k} {facts[k]}" for k in ("asn", "country") if facts[k]))
    if facts["networks"]:
        click.echo(f"  network  {', '.join(facts['networks'])}")
    click.echo(f"  request  {facts['method']} {facts['path']}\n")
    rows = [[v.rule, v.verdict, v.action, "shadow" if v.shadow else "", v.note] for v in verdicts]
    click.echo(table(rows, ["rule", "verdict", "action", "mode", "note"], _COLOURS))
