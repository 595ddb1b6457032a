"""crawlguard keeps LLM crawlers off a site: by who they say they are, where they come from and how they behave. No JavaScript.

from crawlguard.asgi import CrawlGuardMiddleware    # FastAPI, Starlette, Litestar, Quart, Django ASGI
from crawlguard.wsgi import CrawlGuardMiddleware    # Flask, Bottle, Pyramid, Django WSGI
MIDDLEWARE = ["crawlguard.django.CrawlGuardMiddleware", ...]
"""

from importlib import import_module

TYPE_CHECKING = False  # as in typing, which takes 20 ms to load
if TYPE_CHECKING:
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

_PLACES = {
    "Action": "decision",
    "ConfigError": "errors",
    "CrawlGuardError": "errors",
    "DataError": "errors",
    "Decision": "decision",
    "Guard": "guard",
    "Policy": "policy.model",
    "PolicyError": "errors",
    "RequestView": "request",
    "exempt": "views",
    "identify": "catalogue",
    "load_policy": "loader",
    "strict": "views",
}
"""In which module each public name lives. It is loaded with the first use (PEP 562): a door needs few of them, and the command starts at once."""


if not TYPE_CHECKING:  # so that a name that is not there stays a mistake that type checkers find

    def __getattr__(name):
        if name not in _PLACES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(f".{_PLACES[name]}", __name__), name)
        return value

    def __dir__():
        return sorted({*globals(), *__all__})
