"""Who takes part in the load test, and what must happen to them. Apart from locust, whose import patches the whole process."""

from __future__ import annotations

PEOPLE, CRAWLERS, FEEDS, SEARCH = "people", "declared crawlers", "feed readers", "search engine"
KINDS = (PEOPLE, CRAWLERS, FEEDS, SEARCH)
USERS = 20
"""Locust users at once, of all kinds."""
