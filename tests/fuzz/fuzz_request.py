"""Any request: through both views, the walk over proxies and a whole policy. Always a decision, never an exception, not even a caught one.

python tests/fuzz/fuzz_request.py -max_total_time=60 [corpus]
"""

from __future__ import annotations

import ipaddress
import sys

import atheris

with atheris.instrument_imports(include=["crawlguard"]):
    from crawlguard import Decision, Guard, RequestView
    from crawlguard.client_ip import ClientResolver, parse_hop, parse_ip
    from crawlguard.loader import parse_policy
    from crawlguard.refusal import refuse

POLICY = """
version: 1
include: [builtin:default]
client_ip: {trusted_proxies: [private, 203.0.113.0/24], header: forwarded}
rules:
  - {id: path, when: {path: ["/*a*b$", "/private/"]}, then: hide}
  - {id: ua, when: {user_agent: {contains: [needle], prefix: [zz]}}, then: block}
  - {id: host, when: {host: ["*.example.net"], header: {name: accept, contains: [bad]}}, then: {tag: host}}
  - {id: slow, when: {rate: {per: [fingerprint, ip, agent], requests: 5, within: 1m}}, then: {throttle: {block_for: 1m}}}
"""
NAMES = (b"user-agent", b"forwarded", b"x-forwarded-for", b"accept", b"accept-language", b"host", b"cookie")
RESOLVERS = [ClientResolver(("private", "192.0.2.0/24"), header) for header in ("x-forwarded-for", "forwarded", "cf-connecting-ip")]


class Clock:
    now = 10**15

    def __call__(self) -> int:
        self.now += 10_000_000
        return self.now


def make_guard() -> Guard:
    policy, problems = parse_policy(POLICY)
    assert policy is not None, problems
    return Guard(policy, clock=Clock(), store="memory", log="off")


GUARD = make_guard()


def addresses(text: str) -> None:
    """An address that we read is one that the standard library reads, and the same."""
    packed = parse_ip(text)
    if packed is not None:
        known = ipaddress.ip_address(text.partition("%")[0])
        mapped = known.ipv4_mapped if isinstance(known, ipaddress.IPv6Address) else None
        assert packed == (mapped or known).packed, text
    hop = parse_hop(text)
    assert hop is None or len(hop) in (4, 16)


def one_input(data: bytes) -> None:
    given = atheris.FuzzedDataProvider(data)
    method, path, peer = given.ConsumeUnicode(8), given.ConsumeUnicode(40), given.ConsumeUnicodeNoSurrogates(40)
    if given.ConsumeBool():
        peer = given.PickValueInList(["127.0.0.1", "203.0.113.1", "192.0.2.1", "", "::1"])
    sent = [
        (given.PickValueInList(list(NAMES)), given.ConsumeBytes(given.ConsumeIntInRange(0, 80)))
        for _ in range(given.ConsumeIntInRange(0, 6))
    ]
    scope = {"type": "http", "method": method, "path": path, "headers": sent, "client": (peer, 1)}
    environ = {"REQUEST_METHOD": method, "PATH_INFO": path, "REMOTE_ADDR": peer}
    environ |= {"HTTP_" + n.decode().upper().replace("-", "_"): v.decode("latin-1") for n, v in sent}
    for view in (RequestView.from_scope(scope), RequestView.from_environ(environ)):
        decision = GUARD.decide(view)
        assert isinstance(decision, Decision)
        assert GUARD.counters.errors == 0
        if not decision.allowed:
            refuse(decision, (view.header(b"accept") or b"").decode("latin-1"), view.method)
    for _, value in sent:
        addresses(value.decode("latin-1"))
    values = [value for _, value in sent]
    for resolver in RESOLVERS:
        found = resolver.resolve(parse_ip(peer), values, bool(values))
        assert found is None or len(found) in (4, 16)


def main() -> None:
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
