#!/usr/bin/env python3
"""Draws docs/pictures/performance-*.svg from what `make bench` has kept.

    python3 bench/plot.py [RESULTS [PICTURES]]

Needs matplotlib 3.6 or newer. The same results give the same pictures. docs/performance.md tells what is measured.
"""

import io
import json
import math
import operator
import pathlib
import re
import statistics
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

# As tests/src/bench/result.rs writes them.
Run = dict[str, Any]
Row = dict[str, Any]
Values = list[float]

ROOT = pathlib.Path(__file__).resolve().parent.parent

OURS, QUIET, LIMIT, BARE = "#0b5fa5", "#6aa7d8", "#6e6e6e", "#a8a8a8"
TEXT, DIM, GRID, SHORT, BEYOND = "#1c1c1c", "#595959", "#dedede", "#b83a00", "#fdf1ea"
DASHED = (0, (3, 1.5))
STYLE = {
    # Text stays text. Its places have room for a font as wide as this one, and most are narrower.
    "svg.fonttype": "none",
    "svg.hashsalt": "performance",
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial", "Helvetica", "sans-serif"],
    "font.size": 8,
    "text.color": TEXT,
    "text.parse_math": False,
    "axes.axisbelow": True,
    "axes.edgecolor": DIM,
    "axes.grid.axis": "x",
    "axes.labelcolor": DIM,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": DIM,
    "ytick.color": DIM,
}
TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)
COMMITS_SHOWN = 7
QUIET_ROW = "_quiet"
# How the text of a row begins that goes on with the one before it.
FOLLOWS = ("the same", "and ")
# Costs that are compared: title, row, and the values of ours, ours without audit and tracing, haproxy, bare tonic.
COSTS = (
    ("Chat of 1 KB, no TLS", "unary", "unary.clear", "unary.clear.quiet", "unary.haproxy.clear", "unary.bare.clear"),
    ("Chat of 1 KB, TLS", "unary_tls", "unary.tls", "", "unary.haproxy.tls", ""),
    ("Stream of 100 chunks at once, TLS", "stream", "stream.tls", "stream.quiet", "stream.haproxy", "stream.bare"),
    ("Stream of 100 chunks 5 ms apart, TLS", "paced", "paced.tls", "paced.quiet", "paced.haproxy", "paced.bare"),
)


class Bar(NamedTuple):
    """A bar of a panel."""

    name: str
    color: str
    values: Values
    said: str
    # What it must be, and where that is on its axis.
    row: Row | None = None
    target: float | None = None


class Sheet:
    """A picture. What is on it is placed in inches, from the left and from the top."""

    def __init__(self, title: str, captions: list[str], width: float, height: float) -> None:
        self.title, self.width, self.height = title, width, height
        self.figure = plt.figure(figsize=(width, height), facecolor="white")
        self.text(0.2, 0.3, title, size=13, weight="bold")
        for line, caption in enumerate(reversed(captions)):
            self.text(0.2, height - 0.2 - 0.19 * line, caption, color=DIM)

    def text(self, left: float, top: float, text: str, **how: Any) -> None:
        """Writes a line."""
        self.figure.text(left / self.width, 1 - top / self.height, text, va="center", **how)

    def panel(self, left: float, top: float, width: float, height: float) -> Axes:
        """Axes. Their labels are outside."""
        place = left / self.width, 1 - (top + height) / self.height, width / self.width, height / self.height
        return self.figure.add_axes(place)

    def save(self, path: pathlib.Path) -> None:
        """Writes it, without the time and without the version of what drew it."""
        picture = io.StringIO()
        self.figure.savefig(picture, format="svg", metadata={"Title": self.title, "Date": None, "Creator": None})
        # Places need no six decimals: two are enough, and much shorter.
        path.write_text(re.sub(r"(\.\d\d)\d{3,4}\b", r"\1", picture.getvalue()), "utf-8")


def middle(values: Values) -> float:
    """The value that counts, as in the table: of three the second, of two the smaller one."""
    return statistics.median_low(values)


def number(value: float) -> str:
    """With three figures, as in the table."""
    size = abs(value)
    digits = 0 if size >= 100 or size == 0 else 1 if size >= 10 else 2 if size >= 1 else 3
    return f"{value:,.{digits}f}".replace("-", "−")


def measured(run: Run, name: str, scale: float = 1.0) -> Values:
    """A value, of each repeat that has it."""
    return [repeat[name] * scale for repeat in run["repeats"] if name in repeat]


def of_both(run: Run, name: str, other: str, how: Callable[[float, float], float], scale: float = 1.0) -> Values:
    """What comes out of two values of the same repeat."""
    return [how(repeat[name], repeat[other]) * scale for repeat in run["repeats"] if {name, other} <= repeat.keys()]


def row_of(run: Run, name: str) -> Row | None:
    """A row."""
    return next((row for row in run["figures"] if row["name"] == name), None)


def target_of(row: Row | None) -> float | None:
    """What a row must be. `None` if it is only told."""
    if row is None:
        return None
    return row["at_least"] if row["at_most"] is None else row["at_most"]


def must_be(row: Row) -> str:
    """What a row must be, in words."""
    return f"{target_of(row):,g} or {'more' if row['at_most'] is None else 'less'}"


def share(row: Row, value: float) -> float:
    """How much of its target a value is. More than 1 is a shortfall, for rows of which more is better too."""
    over, under = (row["at_least"], value) if row["at_most"] is None else (value, row["at_most"])
    if under <= 0.0:
        return 0.0 if over <= under else math.inf
    return over / under


def is_good(row: Row | None) -> bool:
    """Whether a row is as it must be."""
    return row is None or target_of(row) is None or share(row, middle(row["values"])) <= 1.0


def captions(run: Run, *more: str) -> list[str]:
    """What stands below a picture: what was measured where, and how it is read."""
    machine = run["machine"]
    cores = f"{machine['cores']} core{'' if machine['cores'] == 1 else 's'}"
    processor = machine["processor"] or "a processor without a name"
    count = len(run["repeats"])
    repeats = f"Median of {count} repeats, whiskers: their range." if count > 1 else "One repeat."
    return [f"Commit {run['commit']} of {run['time'][:10]}, on {processor}, {cores}. {repeats}", *more]


def draw_bars(sheet: Sheet, top: float, title: str, unit: str, bars: list[Bar]) -> None:
    """A panel of bars, one below the other, each with its value in words."""
    sheet.text(0.2, top + 0.12, title, size=9, weight="bold")
    axes = sheet.panel(1.95, top + 0.3, 3.8, height_of(bars))
    for place, bar in enumerate(bars):
        axes.barh(place, middle(bar.values), height=0.66, color=bar.color)
        if len(bar.values) > 1:
            axes.plot([min(bar.values), max(bar.values)], [place] * 2, color=TEXT, linewidth=1.1, marker="|")
        said, good = bar.said, is_good(bar.row)
        if bar.row is not None and bar.target is not None:
            axes.plot([bar.target] * 2, [place - 0.47, place + 0.47], color=SHORT, linewidth=1.5, linestyle=DASHED)
            said += f" ({must_be(bar.row)})" + ("" if good else " SHORTFALL")
        how = {"color": TEXT if good else SHORT, "weight": "normal" if good else "bold"}
        axes.text(1.03, place, said, transform=axes.get_yaxis_transform(), va="center", **how)
    axes.set_yticks(range(len(bars)), [bar.name for bar in bars], color=TEXT)
    axes.set_ylim(len(bars) - 0.45, -0.55)
    ends = [0.0, *(end for bar in bars for end in (*bar.values, bar.target or 0.0))]
    axes.set_xlim(min(ends) * 1.06, max(ends) * 1.06 or 1.0)
    axes.axvline(0.0, color=DIM, linewidth=0.8)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(unit)
    axes.grid()


def height_of(bars: list[Bar]) -> float:
    """How high the axes of bars are, in inches."""
    return 0.26 * len(bars) + 0.06


def sheet_of_bars(title: str, lines: list[str], panels: list[tuple[str, str, list[Bar]]]) -> Sheet | None:
    """Panels of bars, one below the other. `None` if there is no bar."""
    panels = [(name, unit, found) for name, unit, bars in panels if (found := [bar for bar in bars if bar.values])]
    if not panels:
        return None
    heights = [height_of(bars) + 0.95 for *_, bars in panels]
    sheet = Sheet(title, lines, 9.0, 0.6 + sum(heights) + 0.19 * len(lines))
    for place, panel in enumerate(panels):
        draw_bars(sheet, 0.6 + sum(heights[:place]), *panel)
    return sheet


def cost(runs: list[Run]) -> Sheet | None:
    """What a chat costs in the newest run, beside haproxy and bare tonic."""
    run = runs[-1]

    def bar(name: str, color: str, value: str, limit: str, row: str = "") -> Bar:
        values = measured(run, f"{value}.cpu_ms")
        said = number(middle(values)) if values else ""
        ratios = of_both(run, f"{value}.cpu_ms", f"{limit}.cpu_ms", operator.truediv)
        if value == limit or not ratios:
            return Bar(name, color, values, said)
        asked = row_of(run, row)
        most = target_of(asked)
        target = None if most is None else most * middle(measured(run, f"{limit}.cpu_ms"))
        return Bar(name, color, values, f"{said}, {number(middle(ratios))} × haproxy", asked, target)

    panels = []
    for title, row, ours, quiet, limit, bare in COSTS:
        bars = [
            bar("everything on", OURS, ours, limit, row),
            bar("audit and tracing off", QUIET, quiet, limit, row + QUIET_ROW),
            bar("haproxy", LIMIT, limit, limit),
            bar("bare tonic", BARE, bare, limit),
        ]
        panels.append((title, "CPU seconds per 1,000 calls", bars))
    lines = captions(run, "Blue: gateway and vault together. Dashed: the most that is good, a multiple of haproxy's.")
    return sheet_of_bars("What a chat costs in CPU time", lines, panels)


def time(runs: list[Run]) -> Sheet | None:
    """How much later the events of a stream come in the newest run, and how evenly."""
    run = runs[-1]

    def bar(name: str, color: str, values: Values, unit: str, row: str = "") -> Bar:
        said = f"{number(middle(values))} {unit}" if values else ""
        asked = row_of(run, row)
        return Bar(name, color, values, said, asked, target_of(asked))

    first, between, late = [], [], []
    for at in ("p50", "p99"):
        for name, color, row in (("gateway", OURS, f"first_event_{at}"), ("haproxy", LIMIT, "")):
            added = of_both(run, f"first.{name}.{at}_s", f"first.direct.{at}_s", operator.sub, 1e3)
            first.append(bar(f"{name}, {at}", color, added, "ms", row))
    for streams in (16, 128):
        ours, limit = (f"between.{way}.{streams}" for way in ("gateway", "direct"))
        added = of_both(run, f"{ours}.gap_p50_s", f"{limit}.gap_p50_s", operator.sub, 1e6)
        between.append(bar(f"gateway, {streams} streams", OURS, added, "µs", f"between_{streams}"))
        late.append(bar(f"gateway, {streams} streams", OURS, measured(run, f"{ours}.late_p50_s", 1e3), "ms"))
        late.append(bar(f"direct, {streams} streams", LIMIT, measured(run, f"{limit}.late_p50_s", 1e3), "ms"))
    panels = [
        ("Added time to the first event, one caller", "added time in ms", first),
        ("Added time between events 5 ms apart, p50", "added time in µs", between),
        ("Time from when the provider writes an event until it is read, p50", "time in ms", late),
    ]
    how = "TLS, audit and tracing on. Added: to a call straight to the provider. Dashed: the most that is good."
    lines = captions(run, how)
    return sheet_of_bars("How much later events come", lines, panels)


def targets(runs: list[Run]) -> Sheet | None:
    """All rows of the newest run that must be something, as shares of what they must be."""
    run = runs[-1]
    rows = [row for row in run["figures"] if target_of(row) is not None]
    if not rows:
        return None
    shares = [[share(row, value) for value in row["values"]] for row in rows]
    # Nothing and infinity are not on the axis: they stand at its ends, as arrows.
    shown = [value for values in shares for value in values if TICKS[0] <= value <= TICKS[-1]]
    least, most = min([*shown, 0.5]) / 1.5, max([*shown, 2.0]) * 1.5
    upside_down = "Where more is better it is the target's share of the value, so that less is better everywhere."
    lines = captions(run, f"{upside_down} Arrow: off the axis, as 0 is.")
    height = 0.25 * len(rows)
    sheet = Sheet("Everything that has a target", lines, 10.5, height + 2.0)
    top, left, width = 0.8, 4.6, 3.0
    axes = sheet.panel(left, top, width, height)
    axes.set_xscale("log")
    axes.set_xlim(least, most)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.axvspan(1.0, most, color=BEYOND, linewidth=0)
    axes.axvline(1.0, color=SHORT, linewidth=1.5, linestyle=DASHED)
    for place, (row, values) in enumerate(zip(rows, shares)):
        good, value = is_good(row), min(max(middle(values), least), most)
        color = OURS if good else SHORT
        ends = [min(max(end, least), most) for end in (min(values), max(values))]
        marker = "<" if value == least else ">" if value == most else "o" if good else "D"
        axes.plot(ends, [place] * 2, color=color, linewidth=1.3)
        face = color if good else "white"
        axes.plot(value, place, marker, color=color, markerfacecolor=face, markersize=6, clip_on=False)
        middle_of_row = top + 0.25 * (place + 0.5)
        how = {"color": TEXT if good else SHORT, "weight": "normal" if good else "bold"}
        indent = 0.15 if row["text"].startswith(FOLLOWS) else 0.0
        sheet.text(0.2 + indent, middle_of_row, row["text"])
        unit = "" if row["unit"] == "ratio" or row["unit"].startswith("of ") else f" {row['unit']}"
        said = f"{number(middle(row['values']))}{unit} ({must_be(row)})"
        sheet.text(left + width + 0.12, middle_of_row, said + ("" if good else " SHORTFALL"), **how)
    axes.set_xticks([tick for tick in TICKS if least <= tick <= most])
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.minorticks_off()
    axes.set_yticks([])
    axes.set_xlabel("share of the target (log), more than 1 is a shortfall")
    axes.grid()
    legend(
        sheet,
        Line2D([], [], color=OURS, marker="o", linestyle="none", label="pass"),
        Line2D([], [], color=SHORT, marker="D", markerfacecolor="white", linestyle="none", label="SHORTFALL"),
        Line2D([], [], color=SHORT, linestyle=DASHED, label="target"),
    )
    return sheet


def history(runs: list[Run]) -> Sheet | None:
    """The rows that hold on any machine, in all runs."""
    rows: dict[str, Row] = {}
    for run in reversed(runs):
        for row in run["figures"]:
            if row["unit"] == "ratio":
                rows.setdefault(row["name"], row)
    # A quiet row stands with the one that it is the same as.
    bases = [name for name in rows if not (name.endswith(QUIET_ROW) and name.removesuffix(QUIET_ROW) in rows)]
    if not bases:
        return None
    columns, across, down = 3, 3.25, 2.75
    which = f"Runs: {len(runs)}, this is the newest one. A ratio is to what was measured in the same run."
    lines = captions(runs[-1], which)
    sheet = Sheet("Ratios to the limits, run by run", lines, 10.0, 1.05 + down * math.ceil(len(bases) / columns) + 0.4)
    for place, name in enumerate(bases):
        left, top = across * (place % columns), 0.85 + down * (place // columns)
        draw_rows(sheet, left, top, runs, rows[name], rows.get(name + QUIET_ROW))
    legend(
        sheet,
        Line2D([], [], color=OURS, marker="o", label="as the title says"),
        Line2D([], [], color=QUIET, marker="s", label="audit and tracing off"),
        Line2D([], [], color=SHORT, linestyle=DASHED, label="target"),
    )
    return sheet


def draw_rows(sheet: Sheet, left: float, top: float, runs: list[Run], row: Row, quiet: Row | None) -> None:
    """A panel of a row in all runs, and of the one that is the same but quiet."""
    for line, text in enumerate(row["text"].split(": ", 1)):
        sheet.text(left + 0.2, top + 0.1 + 0.17 * line, text, size=8.5, weight="bold")
    axes = sheet.panel(left + 0.6, top + 0.7, 2.55, 1.25)
    # Those that are marked and named are counted from the newest one.
    marked = list(range(len(runs) - 1, -1, -math.ceil(len(runs) / COMMITS_SHOWN)))[::-1]
    for one, color, marker in ((row, OURS, "o"), (quiet, QUIET, "s")):
        if one is not None:
            draw_row(axes, runs, one["name"], color, marker, marked)
    if (target := target_of(row)) is not None:
        sheet.text(left + 0.2, top + 0.45, f"target: {must_be(row)}", color=SHORT)
        axes.axhline(target, color=SHORT, linewidth=1.2, linestyle=DASHED)
    axes.set_ylim(0.0, axes.get_ylim()[1] * 1.05)
    axes.set_xlim(-0.5, len(runs) - 0.5)
    commits = [runs[place]["commit"] for place in marked]
    names = [commit[:7] + "+" * commit.endswith("+") for commit in commits]
    axes.set_xticks(marked, names, rotation=30, ha="right", rotation_mode="anchor", size=7)
    axes.set_xlabel("commit")
    axes.set_ylabel("ratio")
    axes.grid(axis="y")


def draw_row(axes: Axes, runs: list[Run], name: str, color: str, marker: str, marked: list[int]) -> None:
    """A row in all runs. Where it was not measured, its line has a gap."""
    values = [(row_of(run, name) or {"values": [math.nan]})["values"] for run in runs]
    medians = [middle(some) for some in values]
    axes.plot(medians, color=color, linewidth=1.3, marker=marker, markersize=4.5, markevery=marked)
    # All ranges are one line with gaps: that is shorter than a line for each.
    ends = [end for some in values for end in (min(some), max(some), math.nan)]
    axes.plot([place for place in range(len(runs)) for _ in range(3)], ends, color=color, linewidth=1.0)


def legend(sheet: Sheet, *marks: Line2D) -> None:
    """What marks mean, below the title."""
    place = 0.1 / sheet.width, 1 - 0.45 / sheet.height
    sheet.figure.legend(handles=marks, loc="upper left", bbox_to_anchor=place, ncols=len(marks), frameon=False)


def main(results: pathlib.Path = ROOT / "bench/results", pictures: pathlib.Path = ROOT / "docs/pictures") -> None:
    """Draws all pictures for which something was measured."""
    runs = [json.loads(path.read_text("utf-8")) for path in sorted(results.glob("*.json"))]
    if not runs:
        sys.exit(f"{results} has no result: make bench")
    runs.sort(key=lambda run: run["time"])
    pictures.mkdir(parents=True, exist_ok=True)
    plt.rcParams.update(STYLE)
    for draw in (cost, time, targets, history):
        path = pictures / f"performance-{draw.__name__}.svg"
        sheet = draw(runs)
        if sheet is None:
            print(f"{path} stays as it is: nothing of it was measured", file=sys.stderr)
        else:
            sheet.save(path)


if __name__ == "__main__":
    main(*map(pathlib.Path, sys.argv[1:]))
