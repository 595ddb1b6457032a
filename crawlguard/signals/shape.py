"""What the shape of a client's conduct says: three-valued, as too little evidence is no evidence."""

from __future__ import annotations

from .conduct import EVIDENCE, Conduct

GAPS = 12
"""Gaps between documents before their evenness is judged."""
EVEN = 0.3
"""The coefficient of variation below which gaps are a machine's. Arrivals that know nothing of one another have 1, people who read and click
in bursts more; a crawler with a fixed delay has nearly 0, and Scrapy's RANDOMIZE_DOWNLOAD_DELAY (half to one and a half of the delay, evenly) 0.289."""

Limits = tuple[float, float]
"""A share's exclusive bounds: (low, high)."""
ANY: Limits = (-1.0, 2.0)


def judge(conduct: Conduct, assets: Limits, distinct: Limits, robots: bool | None, regular: bool | None) -> bool | None:
    """Whether a conduct has a shape; None while it shows too little. ``robots`` and ``regular``: None does not ask."""
    documents = conduct.documents
    if documents < EVIDENCE:
        return None
    if not assets[0] < conduct.assets / (documents + conduct.assets) < assets[1]:
        return False
    if not distinct[0] < min(1.0, conduct.distinct / documents) < distinct[1]:
        return False
    if robots is not None and (conduct.robots > 0) is not robots:
        return False
    return regular is None or even(conduct) is regular


def even(conduct: Conduct) -> bool:
    """Whether the gaps between documents are as even as a machine's. All at one instant is a burst, and not even."""
    return conduct.gaps >= GAPS and conduct.mean > 0 and conduct.deviation < EVEN * conduct.mean
