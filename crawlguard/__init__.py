"""crawlguard keeps LLM crawlers off a site: by who they say they are, where they come from and how they behave. No JavaScript.

from crawlguard.asgi import CrawlGuardMiddleware    # FastAPI, Starlette, Litestar, Quart, Django ASGI
from crawlguard.wsgi import CrawlGuardMiddleware    # Flask, Bottle, Pyramid, Django WSGI
MIDDLEWARE = ["crawlguard.django.CrawlGuardMiddleware", ...]
"""

from .catalogue import identify
from .decision import Action, Decision
from .errors import ConfigError, CrawlGuardError, DataError, PolicyError
from .guard import Guard
from .loader import load_policy
from .policy.model import Policy
from .request import RequestView
from .views import exempt, strict

__version__ = "0.1.0"

__all__ = [
    "Action",
    "ConfigError",
    "CrawlGuardError",
    "DataError",
    "Decision",
    "Guard",
    "Policy",
    "PolicyError",
    "RequestView",
    "exempt",
    "identify",
    "load_policy",
    "strict",
]
