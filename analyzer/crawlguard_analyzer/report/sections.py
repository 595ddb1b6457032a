"""The page's sections, in their order; one that has nothing to say is left out."""

from __future__ import annotations

from collections.abc import Callable

import polars as pl

from ..analysis import Analysis
from ..tables import CLASSES
from .cells import ROWS, Column, Row, both, legend, name_of, stroke, sub, table_of
from .markup import Content, Markup, el, join
from .svg import bar_days, curve, share_bar, spark, stacked_days, swatch
from .words import MEANINGS, NAMES, UNTIMED, acted, count, duration, members, moment, obedience, percent, plain, reasons, size


def sections(analysis: Analysis, then: str) -> list[tuple[str, str, Markup]]:
    """(name, title, content) of each; ``name`` is its id on the page."""
    found = []
    for name, title, make in _MAKERS:
        content = make(analysis)
        if content:
            found.append((name, title, _section(name, title, content)))
    return [*found, ("next", "What to do next", _section("next", "What to do next", _next(then)))]


def _section(name: str, title: str, content: Content) -> Markup:
    return el("section", el("h2", title, id=f"{name}-title"), content, id=name, aria_labelledby=f"{name}-title")


def _load(analysis: Analysis) -> list[Markup]:
    classes = analysis.classes()
    sums = {name: int(classes[name].sum()) for name in ("clients", "requests", "documents", "bytes", "spent")}
    names = classes["class"].to_list()
    bars = (("clients", "clients"), ("requests", "requests"), ("pages", "documents"), ("bytes sent", "bytes"))

    def share(column: str, write: Callable[[int], str] = "{:,}".format) -> Callable[[Row], str]:
        return lambda row: join(write(row[column]), sub(percent(row[column], sums[column])))

    columns = (
        Column("class", lambda row: join(swatch(f"c-{row['class']}"), name_of(row["class"]), sub(MEANINGS.get(row["class"], "")))),
        Column("clients", share("clients"), "n"),
        Column("requests", share("requests"), "n"),
        Column("pages", share("documents"), "n opt"),
        Column("sent", share("bytes", size), "n opt"),
        *[Column("server time", share("spent", duration), "n opt")] * bool(sums["spent"]),
    )  # fmt: skip
    return [
        legend(names),
        el(
            "dl",
            ([el("dt", what), el("dd", share_bar({f"c-{n}": v for n, v in zip(names, classes[column], strict=True)}, sums[column]))] for what, column in bars),
            class_="shares", aria_hidden="true",
        ),
        table_of("Clients, requests, pages (requests for documents) and bytes by class", columns, classes, len(classes)),
    ] if sums["clients"] else []  # fmt: skip


def _days(analysis: Analysis) -> list[Markup]:
    days = analysis.every_day()
    by_class = {name: counts for name in CLASSES if any(counts := analysis.by_day(name))}
    if not by_class:
        return []
    sums = [sum(column) for column in zip(*by_class.values(), strict=True)]
    most = max(range(len(days)), key=sums.__getitem__)
    width = bar_days(len(days))
    what = (
        f"A bar for {'each day' if width == 1 else f'every {width} days'} from {days[0]} to {days[-1]}, stacked by class. "
        f"Most requests in a day: {sums[most]:,} on {days[most]}; {sum(sums) // len(days):,} on the average."
    )
    columns = [Column("day", lambda row: str(row["day"])), Column("all", lambda row: f"{row['all']:,}", "n")]
    columns += [Column(name_of(name), lambda row, name=name: f"{row[name]:,}", "n") for name in by_class]  # type: ignore[misc]
    numbers = pl.DataFrame({"day": days, "all": sums, **by_class})
    return [
        el("figure", legend(list(by_class)), stacked_days(days, by_class, what), el("figcaption", what)),
        el("details", el("summary", "The numbers"), table_of("Requests per day by class", columns, numbers.tail(_MOST_DAYS), _MOST_DAYS)),
    ]


_MOST_DAYS = 124
"""Days of the chart in numbers, the last ones."""


def _agents(analysis: Analysis) -> list[Markup]:
    table = analysis.agents
    most = int(table["requests"].max() or 0)  # type: ignore[arg-type]
    whole = int(analysis.clients["requests"].sum())
    looked = table["robots_fetched"].count() > 0

    def identity(row: Row) -> str:
        if row["spoofed"] and row["spoofed"] < row["requests"]:
            return join(f"{row['identity']}, ", el("span", f"{percent(row['spoofed'], row['requests'])} under a false name", class_="bad"))
        return el("span", row["identity"], class_={"verified": "good", "spoofed": "bad"}.get(row["identity"]))

    def robots(row: Row) -> str:
        examples = [el("code", plain(text, 90), class_="sub") for text in (row["examples"] or [])[:2]]
        return join(el("span", obedience(row), class_={"no": "bad", "yes": "good"}.get(row["obeys"])), examples)

    columns = (
        Column("agent", lambda row: join(el("b", row["agent"]), sub(both(row["operator"], row["category"])))),
        Column("requests", lambda row: join(f"{row['requests']:,}", sub(percent(row["requests"], whole))), "n"),
        Column("", lambda row: share_bar({"c-declared": row["verified"], "c-tool": row["requests"] - row["verified"] - row["spoofed"], "c-spoofed": row["spoofed"]}, most), "w opt"),
        Column("identity", identity),
        *([Column("robots.txt", robots, "why")] if looked else []),
        Column("per day", lambda row: spark(analysis.trend("agent", row["agent"])), "opt"),
    )  # fmt: skip
    signs = (
        ("c-declared", "from its operator's published addresses"),
        ("c-tool", "not to be verified"),
        ("c-spoofed", "from elsewhere: a false name"),
    )
    return [
        el("p", "Crawlers, tools, feed readers and monitors by the name that they give, whether it is theirs, and how they keep to robots.txt where that was looked at."),
        el("ul", (el("li", swatch(style), what) for style, what in signs), class_="legend"),
        table_of("Agents by requests", columns, table, whole=analysis.heights()["agents"]),
    ] if table.height else []  # fmt: skip


def _undeclared(analysis: Analysis) -> list[Markup]:
    alone, swarms, heights = analysis.undeclared, analysis.swarms, analysis.heights()
    most = max([int(t["requests"].max() or 0) for t in (alone, swarms)])  # type: ignore[arg-type]

    def load(kind: str, name: str) -> tuple[Column, ...]:
        return (
            Column("requests", lambda row: f"{row['requests']:,}", "n"),
            Column("", lambda row: share_bar({f"c-{row.get('class', kind)}": row["requests"]}, most), "w opt"),
            Column("per day", lambda row: spark(analysis.trend(kind, row[name])), "opt"),
            Column("pages, assets", lambda row: join(f"{row['documents']:,}", sub(f"{row['assets']:,}")), "n opt"),
            Column("why", why, "why"),
        )

    def why(row: Row) -> str:
        return join(f"score {row['score']:.3g}: " if "score" in row else "", "; ".join(reasons(row)) or "their conduct together")

    def client(row: Row) -> str:
        alias = [el("span", f"calls itself {row['agent']}", class_="sub bad")] if row["class"] == "spoofed" and row["agent"] else []
        return join(
            el("span", row["client"], class_="mono"),
            sub(both(row["subnet"] if row["asn"] is None else f"AS{row['asn']}", row["country"])),
            sub(f"{count(row['days'], 'day')}, last {moment(row['last'])[:10]}"),
            alias,
        )

    def swarm(row: Row) -> str:
        return join(
            el("span", row["swarm"], class_="mono"),
            sub(f"{members(row)} in {count(row['subnets'], 'subnet')}"),
        )

    told = []
    if swarms.height:
        told += [
            el("h3", "Swarms"),
            el("p", f"{MEANINGS['swarm'].capitalize()}. What is named speaks against most of them."),
            table_of("Swarms by requests", (Column("swarm", swarm), *load("swarm", "swarm")), swarms, whole=heights["swarms"]),
        ]
    if alone.height:
        told += [
            el("h3", "Single addresses"),
            el("p", "What speaks against each is named with the points that it adds to the score."),
            table_of(
                "Undeclared crawlers by requests", (Column("client", client), *load("client", "client")), alone, whole=heights["undeclared"]
            ),
        ]
    return [el("p", "Machines that call themselves a browser, nothing, or somebody else."), *told] if told else []


def _networks(analysis: Analysis) -> list[Markup]:
    requests, heights = int(analysis.clients["requests"].sum()), analysis.heights()
    told = []
    for kind, title in (("asn", "By autonomous system"), ("subnet", "By subnet (/24, /48)")):
        table = analysis.networks.filter(pl.col("kind") == kind)
        if table.height:
            caption = f"Networks by requests, {title.lower()}"
            told += [el("h3", title), table_of(caption, _network_columns(table, requests), table, 12, heights[kind])]
    if told and not heights["asn"]:
        told.append(
            el("p", "No database of autonomous systems was named (--asn FILE), so networks are known by subnet alone.", class_="soft")
        )
    return [legend([name for name in CLASSES if analysis.networks[name].sum()]), *told] if told else []


def _network_columns(table: pl.DataFrame, whole: int) -> tuple[Column, ...]:
    most = int(table["requests"][0])
    return (
        Column("network", lambda row: join(el("span", row["network"], class_="mono"), sub(str(row["country"] or "")))),
        Column("clients", lambda row: f"{row['clients']:,}", "n"),
        Column("requests", lambda row: join(f"{row['requests']:,}", sub(percent(row["requests"], whole))), "n"),
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
        Column("requests", lambda row: join(f"{row['hits']:,}", sub(percent(row["hits"], whole))), "n"),
        Column("", lambda row: share_bar({"c-crawler" if acted(row["action"]) else "c-person": row["hits"]}, most), "w"),
    )
    return [el("p", "From crawlguard's own decision log."), table_of("What each rule did", columns, table)]


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
    legend = [el("li", stroke(style), name) for name, (_, style) in lines.items()]
    columns = [Column("threshold", lambda row: f"{row['threshold']:.3g}", "n")]
    columns += [Column(name, lambda row, name=name: f"{row[name]:,}", "n") for name in whole]  # type: ignore[misc]
    return [
        el("p", "Clients that give no name are told by their score. How many would be called machines depends on where the line is drawn; "
           "the flatter the curve around it, the less depends on that."),
        el("figure", el("ul", legend, class_="legend"), curve(points["threshold"].to_list(), lines, threshold, "Machines by threshold", what), el("figcaption", what)),
        el("details", el("summary", "The numbers"), table_of("Undeclared clients at or above each threshold", columns, points, points.height)),
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
        told.append(table_of("Lines that could not be read", columns, rows.sort("lines", descending=True)))
    if totals.rows and not totals.spent:
        told.append(el("p", f"Time the server took: n/a. To know it, {UNTIMED}."))
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


_MAKERS: tuple[tuple[str, str, Callable[[Analysis], list[Markup]]], ...] = (
    ("load", "Who takes the load", _load),
    ("days", "Requests per day", _days),
    ("agents", "Agents that name themselves", _agents),
    ("undeclared", "Crawlers that do not", _undeclared),
    ("networks", "Networks", _networks),
    ("guard", "What the guard did", _guard),
    ("threshold", "Where the line is drawn", _threshold),
    ("log", "The log itself", _log),
)
