"""The stricter policy of some views."""

from crawlguard import Guard, Policy
from crawlguard.loader import parse_policy

_read, _problems = parse_policy(
    "version: 1\nrules: [{id: no-libraries, when: {agent: {category: [scraper-library, training]}}, then: {block: {status: 451}}}]\n"
)
if not isinstance(_read, Policy):
    raise RuntimeError(_problems)
no_libraries = Guard(_read, store="memory")
