"""The installed wheel, asked for what must work without extras and without the checkout."""

import sys
from pathlib import Path
from wsgiref.util import setup_testing_defaults

import crawlguard
from crawlguard import catalogue
from crawlguard.wsgi import CrawlGuardMiddleware

here = Path(crawlguard.__file__).parent
assert "site-packages" in here.parts, here
for name in ("agents.json", "networks.json", "policies/default.yaml", "agents/openai.yaml"):
    assert (here / "_rules" / name).is_file(), name
assert len(catalogue.agents()) > 200
assert not {"polars", "django", "flask", "starlette", "re2"} & set(sys.modules)

agent = crawlguard.identify("Mozilla/5.0 (compatible; GPTBot/1.2; +https://openai.com/gptbot)")
assert agent is not None and agent.ai and agent.operator == "OpenAI", agent
assert crawlguard.identify("Mozilla/5.0 (X11; Linux x86_64; rv:156.0) Gecko/20100101 Firefox/156.0") is None


def ask(user_agent: str) -> str:
    """The status line for one request through the door."""
    environ: dict[str, object] = {"HTTP_USER_AGENT": user_agent, "REMOTE_ADDR": "203.0.113.7"}
    setup_testing_defaults(environ)
    seen: list[str] = []
    list(guarded(environ, lambda status, headers: seen.append(status)))
    return seen[0]


def site(environ, start_response):  # type: ignore[no-untyped-def]
    """A site."""
    start_response("200 OK", [])
    return [b"hello"]


guarded = CrawlGuardMiddleware(site)
assert ask("GPTBot/1.2") == "403 Forbidden", ask("GPTBot/1.2")
assert ask("Mozilla/5.0 (X11; Linux x86_64; rv:156.0) Gecko/20100101 Firefox/156.0") == "200 OK"

_, problems = crawlguard.loader.parse_policy("version: 1\nrules:\n- {id: a, when: {user_agent: {regex: x}}, then: block}\n")
assert [p.id for p in problems] == ["CG017"] and "crawlguard[regex]" in problems[0].advice, problems
print("wheel", crawlguard.__version__, "ok")
