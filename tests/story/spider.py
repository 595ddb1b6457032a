"""A Scrapy spider as the manual shows it, which follows every link of the site. Started as   scrapy runspider spider.py -a start=URL"""

from __future__ import annotations

from urllib.parse import urlsplit

from scrapy.linkextractors import LinkExtractor
from scrapy.spiders import CrawlSpider, Rule


class Museum(CrawlSpider):
    """Reads the whole site."""

    name = "museum"
    rules = (Rule(LinkExtractor(), follow=True),)

    def __init__(self, start: str) -> None:
        super().__init__()
        self.start_urls, self.allowed_domains = [start], [str(urlsplit(start).hostname)]
