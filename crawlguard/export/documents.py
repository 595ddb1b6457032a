"""The neighbours of robots.txt, from the same words: tdmrep.json and ai.txt, and every document that a policy publishes. Values in, values out."""

from __future__ import annotations

import json
from collections.abc import Iterator

from ..policy.model import Policy
from .headers import RSL_TYPE, USAGE_OF, response_headers
from .places import AI_TXT, LICENSE, ROBOTS, TDMREP, license_path
from .robots import SIGNALS_OF, Will, robots_txt
from .rsl import FREE, rsl_xml, scopes_of
from .uses import training, url_text, where
from .wording import few

TEXT_TYPE, JSON_TYPE = "text/plain; charset=utf-8", "application/json"


def tdmrep_json(policy: Policy, will: Will) -> str:
    """/.well-known/tdmrep.json (TDM Reservation Protocol, final report of 10 May 2024).

    Its most specific match is the first in sequence, and patterns are matched as Google does in robots.txt: longest first is right
    for readers that take the first match and for those that take the longest.
    """
    rules: list[dict[str, str | int]] = []
    for allow, pattern, _ in training(policy, will):
        rules.append({"location": pattern, "tdm-reservation": int(not allow)})
        if not allow and policy.robots.tdm_policy:
            rules[-1]["tdm-policy"] = url_text(policy.robots.tdm_policy)
    return json.dumps(rules, indent=2) + "\n"


def ai_txt(policy: Policy, will: Will) -> str:
    """/ai.txt as Spawning's generator writes it. No document gives an order of precedence: longest first, as in tdmrep.json."""
    lines = ["# For those who collect data sets and train models. Written by crawlguard.", "User-Agent: *"]
    for allow, pattern, _ in training(policy, will):
        lines.append(f"{'Allow' if allow else 'Disallow'}: {pattern}")
        if not allow and pattern == "/":
            lines.append("Disallow: *")
    return "\n".join(lines) + "\n"


def documents(policy: Policy, will: Will, host: str | None = None) -> dict[str, tuple[str, bytes]]:
    """What ``serve`` asks for: by (decoded) path the content type and the body. Raises ConfigError as ``robots_txt`` does."""
    serve, found = policy.serve, {}
    path = license_path(policy, host) if serve.rsl else ""
    if path.startswith("/"):
        found[path] = (RSL_TYPE, rsl_xml(policy, will, host).encode())
    if serve.robots:
        found[ROBOTS] = (TEXT_TYPE, robots_txt(policy, host).text.encode())
    if serve.tdmrep:
        found[TDMREP] = (JSON_TYPE, tdmrep_json(policy, will).encode())
    if serve.ai_txt:
        found[AI_TXT] = (TEXT_TYPE, ai_txt(policy, will).encode())
    return found


def doubts(policy: Policy, will: Will, host: str | None = None) -> list[str]:
    """What a person should be told about ``robots`` and ``serve``: each a sentence with its cure. ``host`` as for ``will_of``."""
    robots, serve = policy.robots, policy.serve
    strictly, unsaid = where(policy, will, "ai-train", all)
    loosely, _ = where(policy, will, "ai-train", any)
    reserved = any(not line.allow for line in strictly)
    wrong = list(unsaid) if serve.tdmrep or serve.ai_txt else []
    found = [*_license_doubts(policy, host), *_contradictions(policy, will)]
    if serve.rsl:
        scopes, more = scopes_of(policy, will, host)
        wrong += more
        free = [s.url for s in scopes if s.terms[-1] == FREE]
        if free:
            found.append(
                f"the RSL document licenses AI training free of charge at {few(free)}, as the rules let it in; refuse it, price it, or drop rsl"
            )
    if wrong:
        found.append(f"no pattern says what the rules say at {few(wrong)}: tdmrep.json, ai.txt or RSL err there; write simpler paths")
    if strictly != loosely and (serve.tdmrep or serve.rsl or serve.ai_txt or serve.headers):
        found.append(
            "the rules serve some agents that train and refuse others; only robots.txt can name agents, "
            "so the other documents refuse training wherever one of them is refused"
        )
    if robots.tdm_policy and not reserved:
        found.append(
            "tdm_policy is said nowhere in tdmrep.json and headers, as the rules refuse training nowhere; refuse it or drop tdm_policy"
        )
    if not reserved and (serve.tdmrep or serve.headers):
        found.append(
            "the rules refuse training nowhere, so tdm-reservation is 0: the right to refuse it is given up; drop tdmrep and headers"
        )
    return found


def _license_doubts(policy: Policy, host: str | None) -> Iterator[str]:
    robots, serve = policy.robots, policy.serve
    if serve.rsl and not robots.license:
        yield f"rsl is served at {LICENSE}, and nothing points there; write robots: {{license: https://{host or 'your.site'}{LICENSE}}}"
    elif serve.rsl and not (why := license_path(policy, host)).startswith("/"):
        yield f"rsl is not served: the license URL {why}; give it a path of its own on this site, or drop rsl"
    if robots.license and not robots.license.lower().startswith("https:"):
        yield "RSL documents are fetched over https alone (RSL 1.0, 8); write the license URL with https"


def _contradictions(policy: Policy, will: Will) -> Iterator[str]:
    """Uses that are said to be welcome, and are refused."""
    uses = dict(USAGE_OF)
    said = [("content_signal", policy.robots.signals, "yes"), ("content_usage", policy.robots.usage, "y")]
    for name, pairs, yes in said:
        for label, value in pairs if isinstance(pairs, tuple) else ():
            use = uses.get(label, label)
            if value != yes or use not in SIGNALS_OF:
                continue
            lines, _ = where(policy, will, use, all if use == "ai-train" else any)
            refused = [line.pattern for line in lines if not line.allow]
            if refused:
                yield f"{name} says {label}={value}, and the rules refuse it at {few(refused)}; write auto, or change one of them"


__all__ = ["ai_txt", "documents", "doubts", "response_headers", "rsl_xml", "tdmrep_json"]
