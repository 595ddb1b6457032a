"""The Django door, sync and async in one class.

MIDDLEWARE = ["crawlguard.django.CrawlGuardMiddleware", ...]
CRAWLGUARD = {"policy": "crawlguard.yaml"}          # optional; the settings of Guard by name
INSTALLED_APPS = [..., "crawlguard.django"]         # optional: ``manage.py check`` then looks at CRAWLGUARD too
"""

from .middleware import CrawlGuardMiddleware

__all__ = ["CrawlGuardMiddleware"]
