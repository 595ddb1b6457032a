"""Charts as inline SVG: each says in words what it shows, takes its colours from the page, and stays legible when it shrinks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date
from math import ceil, floor, log10

from .markup import Content, Markup, el
from .words import NAMES, buckets, short

WIDTH = 760
MOST_BARS = 92
"""Bars of the chart of days: three months by the day, longer logs by several days."""
MOST_TICKS = 8
SPARKS = 40

_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 8, 12, 32


def bar_days(days: int) -> int:
    """How many days a bar stands for in the chart of so many."""
    return max(1, -(-days // MOST_BARS))


def stacked_days(days: Sequence[date], by_class: Mapping[str, Sequence[int]], what: str) -> Markup:
    """Requests on each day (or stretch of days), stacked by class. ``by_class``: a number for each day. ``what``: the chart's description."""
    width = bar_days(len(days))
    starts = days[::width]
    stacks = {name: buckets(list(counts), MOST_BARS) for name, counts in by_class.items()}
    sums = [sum(column) for column in zip(*stacks.values(), strict=True)]
    ticks = scale(max(sums, default=0))
    height, base = 300, 300 - _BOTTOM
    step = (WIDTH - _LEFT - _RIGHT) / max(len(starts), 1)
    bar = min(step * 0.82, 56)

    def y(value: float) -> float:
        return base - (base - _TOP) * value / ticks[-1]

    bars = []
    for i, day in enumerate(starts):
        x, below, parts = _LEFT + step * i + (step - bar) / 2, 0, []
        for name, counts in stacks.items():
            if counts[i]:
                parts.append(el("rect", x=x, y=y(below + counts[i]), width=bar, height=y(below) - y(below + counts[i]), class_=f"c-{name}"))
                below += counts[i]
        told = ", ".join(f"{NAMES.get(name, name)} {counts[i]:,}" for name, counts in stacks.items() if counts[i])
        bars.append(el("g", el("title", f"{day:%d %b %Y}: {below:,} requests; {told}" if told else f"{day:%d %b %Y}: none"), parts))
    every = max(1, -(-len(starts) // MOST_TICKS))
    labels = [
        el(
            "text",
            f"{day.day} {day:%b}" if len(days) < 300 else f"{day:%b %Y}",
            x=_LEFT + step * (i * every + 0.5), y=height - 8, text_anchor="middle", class_="minor" if i % 2 else None,
        )
        for i, day in enumerate(starts[::every])
    ]  # fmt: skip
    return _figure(
        "chart-of-days",
        height,
        "Requests per day by class",
        what,
        _grid(ticks, y),
        bars,
        _line(_LEFT, base, WIDTH - _RIGHT, base, "axis"),
        labels,
    )


def curve(
    thresholds: Sequence[float], lines: Mapping[str, tuple[Sequence[int], str]], threshold: float | None, title: str, what: str
) -> Markup:
    """Shares of what reaches each threshold, as steps. ``lines``: (numbers, CSS class) by name; each falls from its first number, 100%."""
    height, base = 260, 260 - _BOTTOM
    least, most = thresholds[0], max(thresholds[-1], thresholds[0] + 1)

    def x(value: float) -> float:
        return _LEFT + (WIDTH - _LEFT - _RIGHT - 8) * (value - least) / (most - least)

    def y(share: float) -> float:
        return base - (base - _TOP - 12) * share / 100

    drawn = []
    for counts, style in ((c, s) for c, s in lines.values() if c[0]):
        points = [(x(t), y(100 * n / counts[0])) for t, n in zip(thresholds, counts, strict=True)]
        path = f"M{points[0][0]:.1f} {points[0][1]:.1f}" + "".join(f"V{down:.1f}H{along:.1f}" for along, down in points[1:])
        drawn.append(el("path", d=path, class_=f"step {style}"))
    ticks = scale(most - least, 8) if least == 0 else [least, most]
    labels = [
        el("text", f"{t:g}", x=x(t), y=height - 8, text_anchor="middle", class_="minor" if i % 2 else None)
        for i, t in enumerate(ticks)
        if t <= most
    ]
    grid = [
        [_line(_LEFT, y(s), WIDTH - _RIGHT, y(s), "grid"), el("text", f"{s}%", x=_LEFT - 8, y=y(s) + 4, text_anchor="end")]
        for s in (0, 50, 100)
    ]
    mark: list[Markup] = []
    if threshold is not None:
        right = x(threshold) < WIDTH * 0.7
        place = x(threshold) + (6 if right else -6)
        mark = [
            _line(x(threshold), _TOP - 4, x(threshold), base, "mark"),
            el("text", f"in force: {threshold:g}", x=place, y=_TOP + 6, text_anchor="start" if right else "end", class_="strong"),
        ]
    return _figure("curve-of-thresholds", height, title, what, grid, drawn, mark, labels)


def share_bar(parts: Mapping[str, int], whole: int) -> Markup:
    """One bar as wide as its cell; ``parts`` by CSS class, of ``whole``. Only a picture: the number stands beside it in words."""
    drawn, x = [], 0.0
    for style, part in parts.items():
        if part and whole:
            drawn.append(el("rect", x=x, y=0, width=max(1000 * part / whole, 1.5), height=10, class_=style))
            x += 1000 * part / whole
    return el("svg", drawn, class_="bar", viewBox="0 0 1000 10", preserveAspectRatio="none", aria_hidden="true")


def spark(counts: Sequence[int]) -> Markup:
    """A small picture of how a number went over the days."""
    values = buckets(counts, SPARKS)
    most = max(values, default=0) or 1
    path = "".join(f"M{3 * i} 20v-{max(20 * n / most, 1):.1f}h2.4V20z" for i, n in enumerate(values) if n)
    return el(
        "svg",
        el("path", d=path),
        class_="spark",
        viewBox=f"0 0 {max(3 * len(values), 30)} 20",
        preserveAspectRatio="xMinYMax",
        aria_hidden="true",
    )


def swatch(style: str) -> Markup:
    """A square of a class's colour."""
    return el(
        "svg",
        el("rect", width=10, height=10, rx=2, class_=style),
        class_="swatch",
        viewBox="0 0 10 10",
        aria_hidden="true",
    )


def scale(most: float, parts: int = 4) -> list[float]:
    """Round numbers from 0 up to at least ``most``, about ``parts`` steps of 1, 2 or 5 times a power of ten."""
    if most < 1e-6:
        return [0, 1]
    power = 10.0 ** floor(log10(most / parts))
    step = next(power * f for f in (1, 2, 5, 10) if power * f * parts >= most * 0.999)
    return [step * i for i in range(ceil(most / step * 0.999) + 1)]


def _grid(ticks: Sequence[float], y: Callable[[float], float]) -> list[Markup]:
    return [
        el("g", _line(_LEFT, y(t), WIDTH - _RIGHT, y(t), "grid"), el("text", short(t), x=_LEFT - 8, y=y(t) + 4, text_anchor="end"))
        for t in ticks
    ]


def _line(x1: float, y1: float, x2: float, y2: float, style: str) -> Markup:
    return el("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=style)


def _figure(name: str, height: int, title: str, what: str, *content: Content) -> Markup:
    return el(
        "svg",
        el("title", title, id=f"{name}-title"),
        el("desc", what, id=f"{name}-desc"),
        *content,
        viewBox=f"0 0 {WIDTH} {height}", role="img", aria_labelledby=f"{name}-title {name}-desc", class_="chart",
    )  # fmt: skip
