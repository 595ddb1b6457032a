"""The compiled ruleset against an interpreter that is slow and plain to read, over random rules, requests and clients."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from crawlguard.decision import ALLOW, Action, Decision
from crawlguard.policy.compile import compile_policy
from crawlguard.policy.model import RETRY_WITHOUT_RATE, Network, Policy
from crawlguard.policy.nodes import Place
from crawlguard.policy.ruleset import UNKNOWN_CLIENT, Client, Ruleset
from crawlguard.policy.schema import RULE
from crawlguard.policy.terms import UNKNOWN_ASN, UNKNOWN_COUNTRY
from crawlguard.request import RequestView
from crawlguard.signals.ua import Agent, Pattern
from crawlguard.store import MemoryStore
from crawlguard.yamlio import parse

Truth = bool | None

AGENTS = (
    Agent(name="Alpha", operator="One", category="training", user_agent=(Pattern(token="alphabot"),)),
    Agent(name="AlphaPlus", operator="One", category="search-engine", user_agent=(Pattern(token="alphabot-plus"),)),
    Agent(name="Beta", operator="Two", category="training", user_agent=(Pattern(token="betabot"), Pattern(token="beta-fetch"))),
)
TOKENS = {"Alpha": ["alphabot"], "AlphaPlus": ["alphabot-plus"], "Beta": ["betabot", "beta-fetch"]}
NETWORKS = {"near": ("10.0.0.0/9", "2001:db8::/32"), "far": ("10.128.0.0/9",), "one": ("192.0.2.1/32",)}
UAS = [None, "", " ", "alphabot/1.0", "AlphaBot-Plus/2", "x alphabot betabot", "Beta-Fetch", "alphabots", "Mozilla/5.0 like"]
ADDRESSES = [None, "10.0.0.1", "10.200.3.4", "192.0.2.1", "2001:db8::5", "198.51.100.9"]
PATHS = ["/", "/a", "/a/b", "/A", "/a/b.php", "/x/a/y", "/a$"]
HEADERS = [None, "", "one", "ONE two", "two"]


@dataclass(frozen=True)
class Case:
    """One request with all that is known of its client."""

    ua: str | None
    address: str | None
    asn: int
    country: str
    path: str
    method: str
    host: str | None
    header: str | None


cases = st.builds(
    Case,
    ua=st.sampled_from(UAS),
    address=st.sampled_from(ADDRESSES),
    asn=st.sampled_from([0, 5, 7]),
    country=st.sampled_from(["", "NO", "DE"]),
    path=st.sampled_from(PATHS),
    method=st.sampled_from(["GET", "POST"]),
    host=st.sampled_from([None, "a.example", "B.A.example:80", "other"]),
    header=st.sampled_from(HEADERS),
)


def some(*values: Any) -> st.SearchStrategy[Any]:
    """One of the values, or a list of some of them."""
    return st.one_of(st.sampled_from(values), st.lists(st.sampled_from(values), min_size=1, max_size=3, unique=True))


kinds = st.dictionaries(
    st.sampled_from(["is", "prefix", "suffix", "contains"]),
    some("a", "/a", "one", "alphabot", "t", ".example", "O"),
    min_size=1,
    max_size=2,
)
leaves = st.one_of(
    st.fixed_dictionaries({"agent": some("Alpha", "alphaplus", "Beta")}),
    st.fixed_dictionaries(
        {
            "agent": st.fixed_dictionaries(
                {}, optional={"operator": some("One", "two"), "category": some("training", "search-engine"), "ai": st.booleans()}
            ).filter(bool)
        }
    ),
    st.fixed_dictionaries({"user_agent": st.one_of(some("alpha", "BOT", "/1"), kinds, st.fixed_dictionaries({"missing": st.booleans()}))}),
    st.fixed_dictionaries({"ip": some("10.0.0.0/8", "10.0.0.1", "2001:db8::/33", "198.51.100.0/24")}),
    st.fixed_dictionaries({"network": some("near", "far", "one")}),
    st.fixed_dictionaries({"asn": some(5, 6)}),
    st.fixed_dictionaries({"country": some("NO", "se", "de")}),
    st.fixed_dictionaries({"path": st.one_of(some("/a", "/a$", "/a/*.php$", "*/a", "/"), kinds)}),
    st.fixed_dictionaries({"method": some("GET", "post")}),
    st.fixed_dictionaries({"host": st.one_of(some("a.example", "*.A.example"), kinds)}),
    st.fixed_dictionaries(
        {"header": st.one_of(kinds, st.fixed_dictionaries({}, optional={"missing": st.booleans()})).map(lambda k: {"name": "X-Test", **k})}
    ),
    st.fixed_dictionaries(
        {"score": st.one_of(st.integers(-3, 6), st.fixed_dictionaries({"at_least": st.integers(-3, 6), "below": st.integers(-3, 9)}))}
    ),
)
conditions = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.fixed_dictionaries({"not": inner}),
        st.fixed_dictionaries({"all": st.lists(inner, min_size=1, max_size=3)}),
        st.fixed_dictionaries({"any": st.lists(inner, min_size=1, max_size=3)}),
        st.tuples(inner, inner).map(lambda pair: {**pair[0], **pair[1]}),
    ),
    max_leaves=7,
)
actions = st.one_of(
    st.sampled_from(["allow", "block", "throttle", "hide", "price"]),
    st.fixed_dictionaries({"weigh": st.integers(-4, 6)}),
    st.fixed_dictionaries({"tag": some("x", "y")}),
    st.fixed_dictionaries({"weigh": st.integers(-4, 6), "tag": some("x"), "hide": st.none()}),
)
rule_lists = st.lists(
    st.fixed_dictionaries({"then": actions}, optional={"when": conditions, "mode": st.sampled_from(["shadow", "enforce"])}),
    min_size=1,
    max_size=5,
)

# ---- the naive interpreter


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def kleene_and(parts: list[Truth]) -> Truth:
    return False if False in parts else None if None in parts else True


def kleene_not(part: Truth) -> Truth:
    return None if part is None else not part


def robots(pattern: str, path: str) -> bool:
    end = r"\Z" if pattern.endswith("$") else ""
    return re.match(".*".join(map(re.escape, pattern.removesuffix("$").split("*"))) + end, path, re.DOTALL) is not None


def texts(spec: Any, text: str, default: str) -> bool:
    """A text condition; "robots" patterns and other kinds."""
    spec = spec if isinstance(spec, dict) else {default: spec}
    holds: dict[str, Callable[[str], bool]] = {
        "robots": lambda v: robots(v, text),
        "is": lambda v: v == text or (v.startswith("*.") and default == "is" and text.endswith(v[1:])),
        "prefix": text.startswith,
        "suffix": text.endswith,
        "contains": lambda v: v in text,
    }
    return all(any(holds[kind](v) for v in listed(values)) for kind, values in spec.items() if kind in holds)


def lower(spec: Any) -> Any:
    if isinstance(spec, dict):
        return {k: lower(v) for k, v in spec.items()}
    return [lower(v) for v in spec] if isinstance(spec, list) else spec.lower() if isinstance(spec, str) else spec


def one(key: str, spec: Any, case: Case, score: int) -> Truth:
    """One key of a ``when``."""
    if key == "all":
        return kleene_and([naive(w, case, score) for w in spec])
    if key == "any":
        return kleene_not(kleene_and([kleene_not(naive(w, case, score)) for w in spec]))
    if key == "not":
        return kleene_not(naive(spec, case, score))
    if key in ("ip", "network"):
        cidrs = listed(spec) if key == "ip" else [c for name in listed(spec) for c in NETWORKS[name]]
        return None if case.address is None else any(ip_address(case.address) in ip_network(c) for c in cidrs)
    if key == "asn":
        return None if case.address is None or not case.asn else case.asn in listed(spec)
    if key == "country":
        return None if case.address is None or not case.country else case.country in [c.upper() for c in listed(spec)]
    if key == "agent":
        return any(agent_fits(spec, agent) for agent in AGENTS if named(agent, case.ua or ""))
    if key == "method":
        return case.method in [m.upper() for m in listed(spec)]
    if key == "path":
        return texts(spec, case.path, "robots")
    if key == "host":
        return texts(lower(spec), (case.host or "").lower().partition(":")[0], "is")
    if key == "score":
        bounds = spec if isinstance(spec, dict) else {"at_least": spec}
        return bool(score >= bounds.get("at_least", -99) and score < bounds.get("below", 99))
    text = (case.ua if key == "user_agent" else case.header) or ""
    spec = spec if isinstance(spec, dict) else {"contains": spec}
    missing = spec.get("missing", False if key == "header" and set(spec) == {"name"} else None)
    return (missing is None or (not text.strip()) is missing) and texts(
        {k: lower(v) for k, v in spec.items() if k != "name"}, text.lower(), "contains"
    )


def named(agent: Agent, ua: str) -> bool:
    return any(re.search(rf"(?<![\w-]){token}(?![\w-])", ua, re.IGNORECASE | re.ASCII) for token in TOKENS[agent.name])


def agent_fits(spec: Any, agent: Agent) -> bool:
    if not isinstance(spec, dict):
        return agent.name.lower() in lower(listed(spec))
    facts = {"operator": agent.operator.lower(), "category": agent.category}
    return all(agent.ai is v if k == "ai" else facts[k] in lower(listed(v)) for k, v in spec.items())


def naive(when: dict[str, Any], case: Case, score: int) -> Truth:
    """A ``when``, in three values."""
    return kleene_and([one(key, spec, case, score) for key, spec in when.items()])


def decide(rules: list[dict[str, Any]], mode: str, case: Case) -> tuple[Decision, list[str]]:
    """The decision, and the verdict of every rule."""
    score, tags, shadow, words = 0, (), (), []  # type: int, tuple[str, ...], tuple[Decision, ...], list[str]
    decision, rehearsed = None, False
    for rule in rules:
        final = next(
            (Action(k) for k in (rule["then"] if isinstance(rule["then"], dict) else [rule["then"]]) if k not in ("weigh", "tag")), None
        )
        in_shadow = rule.get("mode", mode if final else "enforce") == "shadow"
        if decision is not None or (rehearsed and in_shadow):
            words.append("not reached")
            continue
        truth = naive(rule.get("when", {}), case, score)
        words.append({True: "matched", False: "not matched", None: "unknown"}[truth])
        if not truth:
            continue
        then: dict[str, Any] = {rule["then"]: None} if isinstance(rule["then"], str) else rule["then"]
        wait = RETRY_WITHOUT_RATE if final is Action.THROTTLE else None
        if in_shadow:
            if final:
                rehearsed = "mode" not in rule
                shadow += (Decision(action=final, rule=rule["id"], reason=f"rule {rule['id']}", tags=tags, score=score, retry_after=wait),)
            continue
        score += then.get("weigh", 0)
        tags += tuple(listed(then.get("tag", [])))
        if final:
            decision = Decision(
                action=final, rule=rule["id"], reason=f"rule {rule['id']}", tags=tags, score=score, shadow=shadow, retry_after=wait
            )
    return decision or Decision(tags=tags, score=score, shadow=shadow), words


# ---- the real one


def compiled(rules: list[dict[str, Any]], mode: str) -> Ruleset:
    """The rules without the checks that would refuse senseless ones: those must be right too."""
    problems: list[object] = []
    read = []
    for rule in rules:
        node = parse(json.dumps(rule).encode(), "test", problems.append)
        assert node is not None
        read.append(RULE.read(node, problems.append))
    assert problems == []
    networks = {name: Network(Place(), name, cidrs=cidrs) for name, cidrs in NETWORKS.items()}
    return compile_policy(Policy(mode=mode, rules=tuple(read), agents=AGENTS, networks=networks, asn="given", country="given"))


def client_of(ruleset: Ruleset, case: Case) -> Client:
    """What an address table would say of the case's client."""
    if case.address is None:
        return UNKNOWN_CLIENT
    address = ip_address(case.address)
    mask = (0 if case.asn else UNKNOWN_ASN) | (0 if case.country else UNKNOWN_COUNTRY)
    for one in ruleset.addresses:
        if any(address in ip_network(c) for c in one.cidrs) or case.asn in one.asns or case.country in one.countries:
            mask |= one.bit
    return Client(address.packed, mask, asn=case.asn, country=case.country)


def view_of(case: Case) -> RequestView:
    pairs = ((b"user-agent", case.ua), (b"host", case.host), (b"x-test", case.header))
    return RequestView(case.method, case.path, [(name, value.encode()) for name, value in pairs if value is not None], case.address or "")


@settings(max_examples=600, deadline=None)
@given(rules=rule_lists, mode=st.sampled_from(["enforce", "shadow"]), asked=st.lists(cases, min_size=1, max_size=6))
def test_the_compiled_rules_decide_as_the_naive_interpreter_does(rules: list[dict[str, Any]], mode: str, asked: list[Case]) -> None:
    rules = [{"id": f"r{n}", **rule} for n, rule in enumerate(rules)]
    ruleset, rates = compiled(rules, mode), MemoryStore()
    for case in asked:
        wanted, words = decide(rules, mode, case)
        view, ua, client = view_of(case), ruleset.user_agent(case.ua.encode() if case.ua is not None else None), client_of(ruleset, case)
        decision = ruleset.evaluate(view, ua, client, rates, 0)
        assert decision == wanted
        assert (decision is ALLOW) is (wanted == ALLOW)
        explained, verdicts = ruleset.explain(view, ua, client, rates, 0)
        assert explained == wanted
        assert [v.verdict for v in verdicts] == words
