"""Checks of the CRAWLGUARD setting, with stable ids:

crawlguard.E001  CRAWLGUARD is not a dict, or has an unknown key
crawlguard.E002  a setting has a wrong value
crawlguard.E003  the policy cannot be used (one message for each problem in it)
crawlguard.W001  the middleware is not in MIDDLEWARE
crawlguard.W002  a doubt about the policy
crawlguard.W003  the middleware does not stand first
"""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error
from django.core.checks import Warning as Doubt

from ..errors import ConfigError, PolicyError
from ..loader import load_policy
from ..settings import SETTINGS, with_settings

_PATH = "crawlguard.django.CrawlGuardMiddleware"
KEYS = ("policy", *SETTINGS)
# These look at the connection or wrap the response alone, so they may stand before the guard.
_HARMLESS = ("django.middleware.security.SecurityMiddleware", "whitenoise.middleware.WhiteNoiseMiddleware")


def check_settings(app_configs: Any = None, **kwargs: Any) -> list[CheckMessage]:
    """Everything that is wrong with CRAWLGUARD and the place of the middleware."""
    return [*_placement(list(settings.MIDDLEWARE)), *configuration(getattr(settings, "CRAWLGUARD", {}))]


def _placement(middleware: list[str]) -> list[CheckMessage]:
    if _PATH not in middleware:
        return [Doubt("The guard is not in MIDDLEWARE.", hint=f"Put {_PATH!r} first in MIDDLEWARE.", id="crawlguard.W001")]
    before = [m for m in middleware[: middleware.index(_PATH)] if m not in _HARMLESS]
    if before:
        hint = f"Put it before {before[0]!r}, so that refused requests cost no more than they must."
        return [Doubt("The guard does not stand first in MIDDLEWARE.", hint=hint, id="crawlguard.W003")]
    return []


def configuration(given: Any) -> list[CheckMessage]:
    """What is wrong with the value of CRAWLGUARD alone."""
    if not isinstance(given, dict):
        return [Error("CRAWLGUARD is not a dict.", hint='Write CRAWLGUARD = {"policy": "crawlguard.yaml"}.', id="crawlguard.E001")]
    unknown = [k for k in given if k not in KEYS]
    if unknown:
        return [Error(f"CRAWLGUARD has no key {unknown[0]!r}.", hint=f"There are: {', '.join(KEYS)}.", id="crawlguard.E001")]
    try:
        policy = load_policy(given.get("policy"))
        with_settings(policy, **{k: v for k, v in given.items() if k != "policy"})
    except PolicyError as error:
        return [Error(f"{p.file}:{p.line}:{p.column}: {p.id} {p.message}", hint=p.advice, id="crawlguard.E003") for p in error.problems]
    except ConfigError as error:
        return [Error(str(error), id="crawlguard.E002")]
    return [Doubt(f"{p.file}:{p.line}: {p.id} {p.message}", hint=p.advice, id="crawlguard.W002") for p in policy.warnings]
