"""Puts the checks of ``checks`` into Django's check framework."""

from django.apps import AppConfig
from django.core.checks import register

from .checks import check_settings


class CrawlGuardConfig(AppConfig):
    """The application: no models, only checks."""

    name = "crawlguard.django"
    label = "crawlguard"
    verbose_name = "crawlguard"

    def ready(self) -> None:
        """Register the checks under the tag ``crawlguard``."""
        register(check_settings, "crawlguard")
