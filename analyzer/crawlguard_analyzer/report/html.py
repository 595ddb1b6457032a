"""One HTML page that needs nothing else: no script, no font, no request. Its size is bounded by rows and cells, whatever the log held."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import polars as pl

from crawlguard import __version__

from ..analysis import CLASSES, UNDECLARED, Analysis
from .markup import Content, Markup, el, join
from .style import CSS
from .svg import curve, share_bar, spark, stacked_days, swatch
from .words import MEANINGS, NAMES, count, in_short, moment, obedience, percent, period, plain, reasons, shares, size

ROWS = 20
"""Rows of each table; the rest is counted, and in the exports."""
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"

Row = dict[str, Any]


class Column(NamedTuple):
    """A column of a table: its head, its cell for a row, its CSS classes (n: a number; w: a bar; opt: may go where there is little room)."""

    head: str
    cell: Callable[[Row], str]
    style: str = ""


def page(analysis: Analysis, *, now: int | None = None, then: str = "crawlguard propose LOG...") -> str:
    """The page. ``now``: seconds since 1970, when it was made; ``then``: the command that comes next."""
    sections = [section for section in _sections(analysis, then) if section]
    return f"<!DOCTYPE html>\n{el('html', _head(), el('body', _top(analysis, sections), el('main', sections), _foot(now)), lang='en')}\n"


def _head() -> Markup:
    return el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", http_equiv="Content-Security-Policy", content=POLICY),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="referrer", content="no-referrer"),
        el("meta", name="color-scheme", content="light dark"),
        el("link", rel="icon", href="data:,"),
        el("title", "Who visits this site: crawlguard report"),
        el("style", CSS),
    )


def _top(analysis: Analysis, sections: Sequence[Markup]) -> Markup:
    totals, by_class = analysis.totals, shares(analysis)
    whole = sum(by_class.values())
    hidden = sum(by_class.get(name, 0) for name in UNDECLARED)
    figures = (
        ("requests", f"{totals.rows:,}"),
        ("clients", f"{analysis.clients.height:,}"),
        ("sent", size(totals.bytes)),
        ("of the requests by people", percent(by_class.get("person", 0), whole)),
        ("by crawlers that name themselves", percent(by_class.get("declared", 0), whole)),
        ("by machines that hide it", percent(hidden, whole)),
    )
    links = [(title, name) for title, name in _TITLES if any(f'id="{name}"' in section[:40] for section in sections)]
    return el(
        "header",
        el("h1", "Who visits this site"),
        el("p", period(totals), class_="soft"),
        el("p", join(*(f"{sentence} " for sentence in in_short(analysis))), class_="lead"),
        el("dl", (el("div", el("dt", name), el("dd", value)) for name, value in figures), class_="figures"),
        el("nav", el("ul", (el("li", el("a", title, href=f"#{name}")) for title, name in links)), aria_label="Sections"),
    )


_TITLES = (
    ("Who takes the load", "load"),
    ("Requests per day", "days"),
    ("Agents that name themselves", "agents"),
    ("Crawlers that do not", "undeclared"),
    ("Networks", "networks"),
    ("What the guard did", "guard"),
    ("Where the line is drawn", "threshold"),
    ("The log itself", "log"),
    ("What to do next", "next"),
)


def _sections(analysis: Analysis, then: str) -> Iterator[Markup]:
    makers = (_load, _days, _agents, _undeclared, _networks, _guard, _threshold, _log)
    for (title, name), make in zip(_TITLES, makers, strict=False):
        content = make(analysis)
        if content:
            yield _section(name, title, content)
    yield _section("next", "What to do next", _next(then))


def _section(name: str, title: str, content: Content) -> Markup:
    return el("section", el("h2", title, id=f"{name}-title"), content, id=name, aria_labelledby=f"{name}-title")


# ---- the sections; each is empty when there is nothing to say


def _load(analysis: Analysis) -> list[Markup]:
    classes = analysis.classes()
    sums = {name: int(classes[name].sum()) for name in ("clients", "requests", "documents", "bytes")}
    names = classes["class"].to_list()
    bars = [
        (what, column)
        for what, column in (("clients", "clients"), ("requests", "requests"), ("pages", "documents"), ("bytes sent", "bytes"))
    ]

    def share(column: str, write: Callable[[int], str] = "{:,}".format) -> Callable[[Row], str]:
        return lambda row: join(write(row[column]), _sub(percent(row[column], sums[column])))

    columns = (
        Column("class", lambda row: join(swatch(f"c-{row['class']}"), _name(row["class"]), _sub(MEANINGS.get(row["class"], "")))),
        Column("clients", share("clients"), "n"),
        Column("requests", share("requests"), "n"),
        Column("pages", share("documents"), "n opt"),
        Column("sent", share("bytes", size), "n opt"),
    )  # fmt: skip
    return [
        _legend(names),
        el(
            "dl",
            ([el("dt", what), el("dd", share_bar({f"c-{n}": v for n, v in zip(names, classes[column], strict=True)}, sums[column]))] for what, column in bars),
            class_="shares", aria_hidden="true",
        ),
        _table("Clients, requests, pages (requests for documents) and bytes by class", columns, classes, len(classes)),
    ] if sums["clients"] else []  # fmt: skip


def _days(analysis: Analysis) -> list[Markup]:
    days = analysis.every_day()
    if not days:
        return []
    by_class = {name: counts for name in CLASSES if any(counts := _per_day(analysis.days, "class", name, days))}
    sums = [sum(column) for column in zip(*by_class.values(), strict=True)]
    most = max(range(len(days)), key=sums.__getitem__)
    what = (
        f"A bar for each day from {days[0]} to {days[-1]}, stacked by class. Most requests: {sums[most]:,} on {days[most]}; "
        f"{sum(sums) // len(days):,} a day on the average."
    )
    columns = [Column("day", lambda row: str(row["day"])), Column("all", lambda row: f"{row['all']:,}", "n")]
    columns += [Column(_name(name), lambda row, name=name: f"{row[name]:,}", "n") for name in by_class]  # type: ignore[misc]
    numbers = pl.DataFrame({"day": days, "all": sums, **by_class})
    return [
        el("figure", _legend(list(by_class)), stacked_days(days, by_class, what), el("figcaption", what)),
        el("details", el("summary", "The numbers"), _table("Requests per day by class", columns, numbers.tail(_MOST_DAYS), _MOST_DAYS)),
    ]


_MOST_DAYS = 124


def _agents(analysis: Analysis) -> list[Markup]:
    table = analysis.agents
    most = int(table["requests"].max() or 0)  # type: ignore[arg-type]
    whole = int(analysis.clients["requests"].sum())

    def identity(row: Row) -> str:
        if row["spoofed"] and row["spoofed"] < row["requests"]:
            return join(f"{row['identity']}, ", el("span", f"{percent(row['spoofed'], row['requests'])} under a false name", class_="bad"))
        return el("span", row["identity"], class_={"verified": "good", "spoofed": "bad"}.get(row["identity"]))

    def robots(row: Row) -> str:
        examples = [el("code", plain(text, 90), class_="sub") for text in (row["examples"] or [])[:2]]
        return join(el("span", obedience(row), class_={"no": "bad", "yes": "good"}.get(row["obeys"])), examples)

    columns = (
        Column("agent", lambda row: join(el("b", row["agent"]), _sub(_both(row["operator"], row["category"])))),
        Column("requests", lambda row: join(f"{row['requests']:,}", _sub(percent(row["requests"], whole))), "n"),
        Column("", lambda row: share_bar({"c-declared": row["verified"], "c-tool": row["requests"] - row["verified"] - row["spoofed"], "c-spoofed": row["spoofed"]}, most), "w opt"),
        Column("identity", identity),
        Column("robots.txt", robots, "why"),
        Column("per day", lambda row: spark(analysis.trend("agent", row["agent"])), "opt"),
    )  # fmt: skip
    legend = (
        ("c-declared", "from its operator's published addresses"),
        ("c-tool", "not to be verified"),
        ("c-spoofed", "from elsewhere: a false name"),
    )
    return [
        el("p", "Crawlers, tools, feed readers and monitors by the name that they give, whether it is theirs, and how they keep to robots.txt."),
        el("ul", (el("li", swatch(style), what) for style, what in legend), class_="legend"),
        _table("Agents by requests", columns, table),
    ] if table.height else []  # fmt: skip


def _undeclared(analysis: Analysis) -> list[Markup]:
    alone, swarms = analysis.undeclared, analysis.swarms
    most = max([int(t["requests"].max() or 0) for t in (alone, swarms)])  # type: ignore[arg-type]

    def load(kind: str, name: str) -> tuple[Column, ...]:
        return (
            Column("requests", lambda row: f"{row['requests']:,}", "n"),
            Column("", lambda row: share_bar({f"c-{row.get('class', kind)}": row["requests"]}, most), "w opt"),
            Column("per day", lambda row: spark(analysis.trend(kind, row[name])), "opt"),
            Column("score", lambda row: f"{row['score']:.1f}", "n"),
            Column("why", lambda row: el("span", ", ".join(reasons(row["reasons"], row["values"], row["points"])) or "by its name"), "why"),
        )

    def client(row: Row) -> str:
        alias = [el("span", f"calls itself {row['agent']}", class_="sub bad")] if row["class"] == "spoofed" and row["agent"] else []
        return join(
            el("span", row["client"], class_="mono"),
            _sub(_network(row)),
            _sub(f"{count(row['days'], 'day')}, last {moment(row['last'])[:10]}"),
            alias,
        )

    def swarm(row: Row) -> str:
        return join(
            el("span", row["swarm"], class_="mono"),
            _sub(f"{count(row['clients'], 'client')} in {count(row['subnets'], 'subnet')}"),
        )

    told = []
    if swarms.height:
        told += [
            el("h3", "Swarms"),
            el("p", f"{MEANINGS['swarm'].capitalize()}. The score and the reasons are their members' average."),
            _table("Swarms by requests", (Column("swarm", swarm), *load("swarm", "swarm")), swarms),
        ]
    if alone.height:
        told += [
            el("h3", "Single addresses"),
            el("p", "What speaks against each is named with the points that it adds to the score."),
            _table("Undeclared crawlers by requests", (Column("client", client), *load("client", "client")), alone),
        ]
    return [el("p", "Machines that call themselves a browser, nothing, or somebody else."), *told] if told else []


def _networks(analysis: Analysis) -> list[Markup]:
    told = []
    for kind, title in (("asn", "By autonomous system"), ("subnet", "By subnet (/24, /48)")):
        table = analysis.networks.filter(pl.col("kind") == kind)
        if table.height:
            told += [
                el("h3", title),
                _table(
                    f"Networks by requests, {title.lower()}", _network_columns(table, int(analysis.clients["requests"].sum())), table, 12
                ),
            ]
    if told and not analysis.networks["kind"].eq("asn").any():
        told.append(
            el("p", "No database of autonomous systems was named (--asn FILE), so networks are known by subnet alone.", class_="soft")
        )
    return [_legend([name for name in CLASSES if analysis.networks[name].sum()]), *told] if told else []


def _network_columns(table: pl.DataFrame, whole: int) -> tuple[Column, ...]:
    most = int(table["requests"][0])
    return (
        Column("network", lambda row: join(el("span", row["network"], class_="mono"), _sub(str(row["country"] or "")))),
        Column("clients", lambda row: f"{row['clients']:,}", "n"),
        Column("requests", lambda row: join(f"{row['requests']:,}", _sub(percent(row["requests"], whole))), "n"),
        Column("", lambda row: share_bar({f"c-{name}": row[name] for name in CLASSES}, most), "w"),
        Column("mostly", lambda row: NAMES[max(CLASSES, key=lambda name: int(row[name]))], "opt"),
    )


def _guard(analysis: Analysis) -> list[Markup]:
    table = analysis.actions
    if table is None or not table.height:
        return []
    whole, most = int(table["hits"].sum()), int(table["hits"][0])
    columns = (
        Column("rule", lambda row: el("code", row["rule"]) if row["rule"] else "no rule matched"),
        Column("action", lambda row: row["action"]),
        Column("requests", lambda row: join(f"{row['hits']:,}", _sub(percent(row["hits"], whole))), "n"),
        Column("", lambda row: share_bar({"c-person" if row["action"] == "allow" else "c-crawler": row["hits"]}, most), "w"),
    )
    return [el("p", "From crawlguard's own decision log."), _table("What each rule did", columns, table)]


def _threshold(analysis: Analysis) -> list[Markup]:
    points, threshold = analysis.curve, analysis.threshold
    whole = {name: int(points[name][0]) for name in ("requests", "clients")}
    if not whole["clients"]:
        return []
    lines = {name: (points[name].to_list(), f"of-{name}") for name in whole}
    what = "The share of undeclared clients, and of their requests, whose score reaches each threshold."
    if threshold is not None:
        here = points.filter(pl.col("threshold") == threshold)
        told = [f"{percent(here[name][0], whole[name])} of their {name}" for name in whole]
        what += f" At {threshold:g}, the one in force, it is {' and '.join(told)}."
    legend = [el("li", _stroke(style), name) for name, (_, style) in lines.items()]
    columns = [Column("threshold", lambda row: f"{row['threshold']:.3g}", "n")]
    columns += [Column(name, lambda row, name=name: f"{row[name]:,}", "n") for name in whole]  # type: ignore[misc]
    return [
        el("p", "Clients that give no name are told by their score. How many would be called machines depends on where the line is drawn; "
           "the flatter the curve around it, the less depends on that."),
        el("figure", el("ul", legend, class_="legend"), curve(points["threshold"].to_list(), lines, threshold, "Machines by threshold", what), el("figcaption", what)),
        el("details", el("summary", "The numbers"), _table("Undeclared clients at or above each threshold", columns, points, points.height)),
    ]  # fmt: skip


def _log(analysis: Analysis) -> list[Markup]:
    totals = analysis.totals
    missed = sum(totals.unparsed.values())
    told = [
        el(
            "p",
            f"{count(totals.lines, 'line')}: {count(totals.rows, 'request')}, and {count(missed, 'line')} that could not be read ({percent(missed, totals.lines)}).",
        )
    ]
    if totals.formats:
        told.append(el("p", "Taken for: ", ((" · " if i else "") + plain(name) for i, name in enumerate(totals.formats[:ROWS])), "."))
    if missed:
        rows = pl.DataFrame(
            {"reason": list(totals.unparsed), "lines": list(totals.unparsed.values())}, {"reason": pl.String, "lines": pl.Int64}
        )
        columns = (Column("reason", lambda row: row["reason"]), Column("lines", lambda row: f"{row['lines']:,}", "n"))
        told.append(_table("Lines that could not be read", columns, rows.sort("lines", descending=True)))
    return [*told, *(el("p", note) for note in analysis.notes[:ROWS])]


def _next(then: str) -> list[Markup]:
    return [
        el("p", "Ask for rules that would take this load away, with the evidence for each, and the people whom it would hit:"),
        el("pre", el("code", then)),
        el(
            "p",
            "Nothing is enforced by that: a rule begins in shadow mode, and a backtest on this log shows what it would have done.",
            class_="soft",
        ),
    ]


# ---- what they are made of


def _table(caption: str, columns: Sequence[Column], rows: pl.DataFrame, most: int = ROWS) -> Markup:
    head = el("thead", el("tr", (el("th", c.head or "share", scope="col", class_=c.style or None) for c in columns)))
    body = [el("tr", (_cell(i, column, row) for i, column in enumerate(columns))) for row in rows.head(most).iter_rows(named=True)]
    more = [el("p", f"and {rows.height - most:,} more, of fewer requests", class_="soft")] if rows.height > most else []
    table = el("table", el("caption", caption), head, el("tbody", body))
    return join(el("div", table, class_="scroll", role="region", aria_label=caption, tabindex=0), more)


def _cell(place: int, column: Column, row: Row) -> Markup:
    return (
        el("td", column.cell(row), class_=column.style or None)
        if place
        else el("th", column.cell(row), scope="row", class_=column.style or None)
    )


def _legend(names: Iterable[str]) -> Markup:
    return el("ul", (el("li", swatch(f"c-{name}"), _name(name)) for name in names), class_="legend")


def _stroke(style: str) -> Markup:
    return el(
        "svg", el("path", d="M0 5H28", class_=f"step {style}"), class_="line", viewBox="0 0 28 10", aria_hidden="true", focusable="false"
    )


def _both(*texts: str | None) -> str:
    return ", ".join(plain(text, 60) for text in texts if text)


def _network(row: Mapping[str, Any]) -> str:
    return _both(row["subnet"] if row["asn"] is None else f"AS{row['asn']}", row["country"])


def _per_day(days: pl.DataFrame, column: str, name: str, every: Sequence[Any]) -> list[int]:
    found = days.filter(pl.col(column) == name)
    counts = dict(zip(found["day"].to_list(), found["requests"].to_list(), strict=True))
    return [counts.get(day, 0) for day in every]


def _foot(now: int | None) -> Markup:
    made = f"Made by crawlguard {__version__}{f' on {moment(now)} UTC' if now is not None else ''}."
    return el("footer", f"{made} All times are UTC. This page is complete in itself: it runs no script and loads nothing.")


def _name(of_class: str) -> str:
    return NAMES.get(of_class, of_class)


def _sub(text: str) -> Markup:
    """A second line in a cell."""
    return el("span", text, class_="sub")
