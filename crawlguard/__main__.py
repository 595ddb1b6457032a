"""``python -m crawlguard``: the same as the command ``crawlguard``."""

from .cli import main

main()
