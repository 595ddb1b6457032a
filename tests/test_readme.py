"""The README runs: its quick starts guard real applications, its policies load, its numbers of commands and keys are the program's."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from flask import Flask

from crawlguard.commands.group import cli
from crawlguard.loader import parse_policy
from crawlguard.policy.conditions import _FIELDS
from crawlguard.policy.model import FINAL_ACTIONS
from crawlguard.policy.problems import IDS
from crawlguard.policy.schema import json_schema

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text("utf-8")
BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:156.0) Gecko/20100101 Firefox/156.0"
CRAWLER = "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; GPTBot/1.2; +https://openai.com/gptbot)"


def blocks(language: str) -> list[str]:
    """The README's code blocks in a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def quick_start(word: str) -> str:
    """The one Python block that holds a word."""
    found = [b for b in blocks("python") if word in b]
    assert len(found) == 1, (word, found)
    return found[0]


def test_the_fastapi_quick_start_guards_a_site() -> None:
    app = FastAPI()

    @app.get("/")
    def home() -> str:
        return "hello"

    exec(quick_start("add_middleware"), {"app": app})

    async def ask(agent: str) -> int:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://site") as client:
            return (await client.get("/", headers={"user-agent": agent})).status_code

    assert [asyncio.run(ask(a)) for a in (CRAWLER, BROWSER)] == [403, 200]


def test_the_flask_quick_start_guards_a_site() -> None:
    app = Flask(__name__)
    app.add_url_rule("/", view_func=lambda: "hello")
    exec(quick_start("app.wsgi_app = "), {"app": app})
    client = app.test_client()
    assert [client.get("/", headers={"user-agent": a}).status_code for a in (CRAWLER, BROWSER)] == [403, 200]


_DJANGO = """
import json, sys
MIDDLEWARE = ["django.middleware.common.CommonMiddleware"]
{block}
from django.conf import settings
settings.configure(ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, MIDDLEWARE=MIDDLEWARE, CRAWLGUARD=CRAWLGUARD, SECRET_KEY="x")
import django
from django.http import HttpResponse
from django.urls import path
urlpatterns = [path("", lambda request: HttpResponse("hello"))]
django.setup()
from django.test import Client
print([Client().get("/", headers={{"user-agent": a}}).status_code for a in json.loads(sys.argv[1])])
"""


def test_the_django_quick_start_guards_a_site(tmp_path: Path) -> None:
    script = tmp_path / "site.py"
    script.write_text(_DJANGO.format(block=quick_start("MIDDLEWARE = ")))
    done = subprocess.run([sys.executable, str(script), json.dumps([CRAWLER, BROWSER])], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[403, 200]", done.stderr


def test_the_look_up_prints_what_its_comment_says(capsys: pytest.CaptureFixture[str]) -> None:
    block = quick_start("from crawlguard import identify")
    exec(block, {})
    assert capsys.readouterr().out.strip() == block.rsplit("#", 1)[1].strip()


def test_the_marks_of_single_views_are_real() -> None:
    app = FastAPI()
    exec(quick_start("@strict"), {"app": app})
    assert {route.path for route in app.routes} >= {"/health", "/archive"}  # type: ignore[attr-defined]


@pytest.mark.parametrize("text", blocks("yaml"))
def test_every_policy_in_the_readme_loads(text: str) -> None:
    policy, problems = parse_policy(text)
    assert policy is not None, problems
    assert not problems


def test_every_condition_action_and_command_is_in_the_readme() -> None:
    for name in (*_FIELDS, *FINAL_ACTIONS, *cli.commands):
        assert f"`{name}" in README or f"crawlguard {name}" in README or f"{name}:" in README, name


def test_the_schema_in_the_repository_is_the_programs() -> None:
    kept = json.loads((ROOT / "rules" / "policy.schema.json").read_text("utf-8"))
    made: dict[str, Any] = json_schema()
    assert kept == made, "run: crawlguard schema > rules/policy.schema.json"


def test_every_error_id_is_used_in_the_code() -> None:
    code = "".join(p.read_text("utf-8") for p in (ROOT / "crawlguard").rglob("*.py") if p.name != "problems.py")
    assert [i for i in IDS if f'"{i}"' not in code] == []
