"""What is wrong with a policy although each value in it is well-formed: dangling names, missing data, rules in vain."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from ..errors import Problem
from ..request import tidy
from ..signals.match import check_regex, has_regex
from ..signals.ua import AI_CATEGORIES
from . import conditions as c
from .implies import always, implies
from .model import Policy, Rule
from .nodes import Place
from .problems import problem
from .rates import RateOver, WindowIs
from .swarms import SwarmIs
from .types import closest

METHODS = (
    "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "ACL", "BASELINE-CONTROL", "BIND", "CHECKIN", "CHECKOUT", "COPY", "LABEL", "LINK",
    "LOCK", "MERGE", "MKACTIVITY", "MKCALENDAR", "MKCOL", "MKREDIRECTREF", "MKWORKSPACE", "MOVE", "ORDERPATCH", "PRI", "PROPFIND", "PROPPATCH", "QUERY", "REBIND",
    "REPORT", "SEARCH", "UNBIND", "UNCHECKOUT", "UNLINK", "UNLOCK", "UPDATE", "UPDATEREDIRECTREF", "VERSION-CONTROL", "PURGE",
)  # fmt: skip
"""The IANA registry of HTTP methods, and the one that caches know."""


def window_key(window: WindowIs) -> str:
    """The name under which a window's state is kept: a changed limit starts afresh."""
    return f"{window.requests}{'' if window.what == 'requests' else f' {window.what}'}/{window.within}"


def agents_of(when: c.AgentIs, policy: Policy) -> list[int]:
    """The numbers of the agents that a condition names."""
    names, operators, categories, ai = {n.lower() for n in when.name}, {o.lower() for o in when.operator}, set(when.category), when.ai
    return [
        number
        for number, agent in enumerate(policy.agents)
        if (not categories or agent.category in categories)
        and (ai is None or (agent.category in AI_CATEGORIES) is ai)
        and (not names or agent.name.lower() in names)
        and (not operators or agent.operator.lower() in operators)
    ]


def networks_of(when: c.NetworkIs, policy: Policy) -> list[str]:
    """The names of the networks that a condition names, by name and tag."""
    return [
        name
        for name, network in policy.networks.items()
        if (not when.name or name in when.name) and (not when.tag or set(when.tag) & set(network.tags))
    ]


def walk(when: c.Condition) -> Iterator[c.Condition]:
    """Every condition in a condition, itself first."""
    yield when
    if isinstance(when, c.All | c.AnyOf):
        for part in when.of:
            yield from walk(part)
    elif isinstance(when, c.Not):
        yield from walk(when.of)


def missing_data(when: c.Condition, policy: Policy) -> list[str]:
    """Which databases a condition needs and does not have: "no ASN database", "no country database", or nothing."""
    found: list[str] = []
    for part in walk(when):
        by_asn = isinstance(part, c.AsnIs) or (isinstance(part, RateOver | SwarmIs) and "asn" in part.per)
        if isinstance(part, c.NetworkIs):
            named = [policy.networks[name] for name in networks_of(part, policy)]
            by_asn = bool(named) and all(n.asns and not n.cidrs for n in named)
        if by_asn and not policy.asn:
            found.append("no ASN database")
        by_country = isinstance(part, c.CountryIs) or (isinstance(part, RateOver) and "country" in part.per)
        if by_country and not policy.country:
            found.append("no country database")
    return list(dict.fromkeys(found))


def check_policy(policy: Policy) -> list[Problem]:
    """Everything wrong or doubtful with a merged policy, in the order of the rules."""
    found: list[Problem] = []
    first: dict[str, Rule] = {}
    for rule in policy.rules:
        if rule.id in first:
            at = first[rule.id].place
            found.append(
                problem(
                    "CG021",
                    rule.place,
                    f"the rule id {rule.id!r} is used already at {at.file}:{at.line}",
                    "give this rule another id, or put the other's id under disable:",
                )
            )
        first.setdefault(rule.id, rule)
        found += _rule(rule, policy)
    found += _scores(policy)
    found += _in_vain(policy)
    if not policy.rules:
        advice = "add rules, or include: builtin:default"
        found.append(problem("CG102", Place(policy.name), "the policy has no rules, so it allows everything", advice, severity="warning"))
    return found


def _rule(rule: Rule, policy: Policy) -> Iterator[Problem]:
    parts = list(walk(rule.when))
    then = rule.then
    if not then.action and not then.tags and not then.weigh:
        yield problem("CG025", then.place, f"the rule {rule.id!r} does nothing", "write then: block, or weigh: N, or tag: name")
    if then.block_for and not any(isinstance(p, RateOver) for p in parts):
        yield problem("CG031", then.place, "block_for needs a rate condition in the same rule", "add a rate condition, or remove block_for")
    if then.action and then.status is not None and not _fits(then.action, then.status):
        yield problem(
            "CG032",
            then.place,
            f"the status {then.status} does not fit {then.action}",
            "use 4xx or 5xx for a refusal; a throttle is 429 or 503",
        )
    for part in parts:
        yield from _condition(part, policy)
    for missing in missing_data(rule.when, policy):
        key = "country" if "country" in missing else "asn"
        cure = f"name one under data: {{{key}: FILE.mmdb}}"
        if policy.missing_data == "inactive":
            yield problem("CG101", rule.place, f"the rule {rule.id!r} is inactive: {missing}", cure, severity="warning")
        else:
            message = f"the rule {rule.id!r} needs data that is not there: {missing}"
            code = "CG027" if key == "country" else "CG026"
            yield problem(code, rule.place, message, f"{cure}, or write missing_data: inactive to go on without the rule")


def _scores(policy: Policy) -> Iterator[Problem]:
    """Score conditions that the weights of the rules before them can never satisfy, or never fail."""
    low = high = 0
    for rule in policy.rules:
        for part in walk(rule.when):
            if isinstance(part, c.ScoreIs):
                never = (part.at_least is not None and part.at_least > high) or (part.below is not None and part.below <= low)
                if never or low == high == 0:
                    message = f"the rules before this one score from {low} to {high}, so this condition decides nothing"
                    yield problem("CG037", part.place, message, "put rules with then: {weigh: N} before this one, or ask for another score")
        low, high = low + min(0, rule.then.weigh), high + max(0, rule.then.weigh)


def _fits(action: str, status: int) -> bool:
    return status in (429, 503) if action == "throttle" else status >= 400


def _condition(part: c.Condition, policy: Policy) -> Iterator[Problem]:
    if isinstance(part, c.AgentIs):
        yield from _agent(part, policy)
    elif isinstance(part, c.NetworkIs):
        tags = sorted({t for n in policy.networks.values() for t in n.tags})
        for known, words, what in ((list(policy.networks), part.name, "network"), (tags, part.tag, "network tag")):
            for word in words:
                if word not in known:
                    yield problem(
                        "CG020", part.place, f"no {what} is called {word!r}", f"define it under networks:, or {closest(word, known)}"
                    )
        named = networks_of(part, policy)
        if not named and set(part.name) <= set(policy.networks) and set(part.tag) <= set(tags):
            yield problem(
                "CG039", part.place, "no network has this name and this tag", "keys inside network: are an AND; use any: for an OR"
            )
        partly = [n for n in networks_of(part, policy) if policy.networks[n].asns and not policy.asn]
        if partly and not missing_data(part, policy):
            yield problem(
                "CG103",
                part.place,
                f"without an ASN database these networks are known in part or not at all: {', '.join(partly[:12])}",
                "name a database under data: {asn: FILE.mmdb}",
                severity="warning",
            )
    elif isinstance(part, c.CountryIs):
        for code in part.codes:
            if len(code) != 2 or not code.isascii() or not code.isalpha():
                yield problem("CG007", part.place, f"{code!r} is not a country code", "write two letters as in ISO 3166: DE, NO, US")
    elif isinstance(part, c.MethodIs):
        for method in part.methods:
            if method.upper() not in METHODS:
                message = f"no HTTP method is called {method!r}"
                yield problem("CG106", part.place, message, closest(method.upper(), METHODS), severity="warning")
    elif isinstance(part, c.TextIs):
        for kind, values in part.tests:
            if kind == "regex":
                yield from _regexes(part, values)
            elif part.what == "path":
                yield from _paths(part, values)
    elif isinstance(part, c.ScoreIs):
        if part.at_least is not None and part.below is not None and part.at_least >= part.below:
            yield problem("CG039", part.place, "no score is both that high and that low", "make at_least less than below")
    elif isinstance(part, c.AnyOf) and any(always(p) for p in part.of):
        yield problem("CG039", part.place, "one branch of this any: always holds", "remove the any:, or write the branch out")
    elif isinstance(part, c.Not) and always(part.of):
        yield problem("CG039", part.place, "this not: can never hold", "write a condition inside it, or remove it")


def _agent(part: c.AgentIs, policy: Policy) -> Iterator[Problem]:
    names = {a.name.lower(): a.name for a in policy.agents} if part.name else {}
    operators = {a.operator.lower(): a.operator for a in policy.agents} if part.operator else {}
    for name in part.name:
        if name.lower() not in names:
            yield problem(
                "CG018", part.place, f"no agent is called {name!r}", f"define it under agents:, or {closest(name, list(names.values()))}"
            )
    for operator in part.operator:
        if operator.lower() not in operators:
            yield problem("CG019", part.place, f"no agent is run by {operator!r}", closest(operator, list(operators.values())))
    dangling = any(n.lower() not in names for n in part.name) or any(o.lower() not in operators for o in part.operator)
    if not dangling and not agents_of(part, policy):
        yield problem("CG039", part.place, "no agent has all of these properties", "keys inside agent: are an AND; use any: for an OR")


def _paths(part: c.TextIs, values: Sequence[str]) -> Iterator[Problem]:
    """Paths are looked at without their query, and as routers come to see them."""
    for value in values:
        if "?" in value:
            message = f"a path is looked at without its query, so {value[:80]!r} matches nothing"
            yield problem("CG106", part.place, message, "leave the query away; no condition looks at queries", severity="warning")
        elif any(inner in value for inner in ("//", "/./", "/../")):
            message = f"a path is looked at as routers see it, so {value[:80]!r} matches nothing"
            yield problem("CG106", part.place, message, f"write {tidy(value)!r}, which holds for that one, too", severity="warning")


def _regexes(part: c.TextIs, values: Sequence[str]) -> Iterator[Problem]:
    if not has_regex():
        yield problem(
            "CG017",
            part.place,
            "regular expressions need RE2, which is not installed",
            "pip install 'crawlguard[regex]', or use contains, prefix or suffix",
        )
        return
    for value in values:
        complaint = check_regex(value)
        if complaint:
            yield problem(
                "CG016",
                part.place,
                f"RE2 refuses the regex {value[:80]!r}: {complaint}",
                "RE2 has no look-around and no back-references; see https://github.com/google/re2/wiki/Syntax",
            )


def _in_vain(policy: Policy) -> Iterator[Problem]:
    """Rules that an earlier final rule always beats."""
    earlier: list[Rule] = []
    for rule in policy.rules:
        trial = policy.mode == "shadow" and rule.mode == "enforce"  # what only takes the policy's mode decides nothing yet
        shadowing = next(
            (e for e in earlier if not (trial and e.mode is None) and implies(rule.when, e.when, policy, agents_of, networks_of)), None
        )
        if shadowing is not None:
            yield _vain(rule, shadowing)
        if rule.then.action and rule.mode != "shadow" and not missing_data(rule.when, policy):
            earlier.append(rule)


def _vain(rule: Rule, shadowing: Rule) -> Problem:
    """What is wrong with a rule that another always beats. To override an included rule is what includes are for: a warning."""
    at = f"{shadowing.id!r} ({shadowing.place.file}:{shadowing.place.line})"
    override = rule.place.file != shadowing.place.file
    advice = f"write disable: [{rule.id}] where it is included" if override else "move it before that rule, or narrow that rule"
    if always(shadowing.when):
        code, message = "CG023", f"the rule {rule.id!r} can never be reached: {at} matches every request"
    else:
        code, message = "CG024", f"the rule {rule.id!r} is shadowed: whatever it matches, {at} has decided already"
    return problem(code, rule.place, message, advice, severity="warning" if override else "error")


def errors(problems: Iterable[Problem]) -> list[Problem]:
    """The problems that make a policy unusable."""
    return [p for p in problems if p.severity == "error"]
