#!/usr/bin/env python3
"""Draws the panels of both dashboards from a Prometheus, in the places that they have in Grafana.

    draw.py http://127.0.0.1:9090 dashboards.png [SECONDS]

Needs matplotlib. It is for looking at dashboards where there is no Grafana, and for the picture in
docs/observability.md. What is asked are the queries of the panels, over the last SECONDS (60).
"""

import datetime
import io
import json
import math
import pathlib
import re
import sys
import time
import urllib.parse
import urllib.request

import matplotlib

matplotlib.use("Agg")
import matplotlib.dates as dates
import matplotlib.pyplot as plt
from PIL import Image

HERE = pathlib.Path(__file__).parent
BACK, CARD, TEXT, DIM, GRID = "#111217", "#181b1f", "#ccccdc", "#8e8e99", "#2c3235"
COLORS = ["#73bf69", "#f2cc0c", "#8ab8ff", "#ff780a", "#f2495c", "#5794f2", "#b877d9", "#37872d", "#fade2a", "#ffa6b0"]
STATES = {"green": "#73bf69", "orange": "#ff9830", "red": "#f2495c", "blue": "#5794f2"}
UNIT_WIDTH, UNIT_HEIGHT = 0.36, 0.19  # inches of one unit of the grid
LEGEND_MAX = 5
RATE = "10s"


def ask(url, method, **parameters):
    address = f"{url}/api/v1/{method}?{urllib.parse.urlencode(parameters)}"
    with urllib.request.urlopen(address, timeout=30) as answer:
        return json.load(answer)["data"]["result"]


def filled(query, seconds):
    for name, value in (("$__rate_interval", RATE), ("$__range", f"{seconds}s"), ("$instance", ".*"), ("$provider", ".*")):
        query = query.replace(name, value)
    return query


def said(value, unit):
    """A value as a person reads it."""
    if value is None or math.isnan(value):
        return "no data"
    if unit == "percentunit":
        return f"{100 * value:.3g} %"
    if unit == "s":
        scale, word = next(((s, w) for s, w in ((1, "s"), (1e-3, "ms")) if abs(value) >= s), (1e-6, "µs"))
        return f"{value / scale:.3g} {word}"
    return f"{value:.3g}" + (" /s" if unit == "reqps" else "")


def legend(form, labels):
    if not form:
        return ""
    for name, value in labels.items():
        form = form.replace("{{" + name + "}}", value)
    while "{{" in form:
        form = form[: form.index("{{")] + form[form.index("}}") + 2 :]
    # Of a method its name is enough here.
    return re.sub(r"archestra\.\S+/", "", form).strip()


def range_of(url, query, span, seconds):
    start, end = span
    series = ask(url, "query_range", query=filled(query, seconds), start=start, end=end, step=1)
    for one in series:
        times = [datetime.datetime.fromtimestamp(float(t)) for t, _ in one["values"]]
        yield one["metric"], times, [float(v) for _, v in one["values"]]


def draw_stat(axes, panel, url, seconds):
    defaults = panel["fieldConfig"]["defaults"]
    result = ask(url, "query", query=filled(panel["targets"][0]["expr"], seconds))
    value = float(result[0]["value"][1]) if result else math.nan
    color = "blue"
    for step in defaults["thresholds"]["steps"]:
        if step["value"] is None or value >= step["value"]:
            color = step["color"]
    axes.axis("off")
    axes.text(0.5, 0.45, said(value, defaults["unit"]), ha="center", va="center", size=13, color=STATES[color], weight="bold")


def draw_table(axes, panel, url, seconds):
    names = panel["transformations"][0]["options"]["renameByName"]
    rows = ask(url, "query", query=filled(panel["targets"][0]["expr"], seconds))
    rows = sorted(rows, key=lambda row: -float(row["value"][1]))[:7]
    axes.axis("off")
    cells = [[names.get(name, name) for name in names]]
    for row in rows:
        value = f"{float(row['value'][1]):.0f}"
        cells.append([value if name == "Value" else row["metric"].get(name, "") for name in names])
    widths = [max(len(line[n]) for line in cells) + 2 for n in range(len(names))]
    for y, line in enumerate(cells):
        for n, text in enumerate(line):
            x = sum(widths[:n]) / max(sum(widths), 60)
            axes.text(x, 1 - y * 0.13, text, size=6, color=TEXT if y else DIM, va="top", transform=axes.transAxes)


def draw_graph(axes, panel, url, span, seconds):
    defaults = panel["fieldConfig"]["defaults"]
    lines = []
    for target in panel["targets"]:
        for labels, times, values in range_of(url, target["expr"], span, seconds):
            lines.append((legend(target["legendFormat"], labels), times, values))
    lines.sort(key=lambda line: -max((v for v in line[2] if not math.isnan(v)), default=0))
    # matplotlib leaves out names that begin with an underscore.
    for (name, times, values), color in zip(lines, COLORS * 9):
        axes.plot(times, values, linewidth=0.9, color=color, label=f" {name}")
    if defaults["custom"]["scaleDistribution"]["type"] == "log" and any(v > 0 for line in lines for v in line[2]):
        axes.set_yscale("log")
        axes.minorticks_off()
    elif "min" in defaults:
        axes.set_ylim(bottom=defaults["min"], top=defaults.get("max"))
    axes.set_xlim(*(datetime.datetime.fromtimestamp(t) for t in span))
    axes.yaxis.set_major_formatter(lambda value, _: said(value, defaults["unit"]).replace(" /s", ""))
    axes.xaxis.set_major_formatter(dates.DateFormatter("%M:%S"))
    axes.xaxis.set_major_locator(plt.MaxNLocator(4))
    axes.tick_params(labelsize=5, colors=DIM, length=0)
    axes.grid(color=GRID, linewidth=0.4)
    for side in axes.spines.values():
        side.set_visible(False)
    handles, names = axes.get_legend_handles_labels()
    if names:
        more = len(names) - LEGEND_MAX
        names[LEGEND_MAX - 1 : LEGEND_MAX] = [f"{names[LEGEND_MAX - 1]}, {more} more" if more > 0 else n for n in names[LEGEND_MAX - 1 : LEGEND_MAX]]
        axes.legend(
            handles[:LEGEND_MAX], names[:LEGEND_MAX], loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=2, fontsize=4.5,
            frameon=False, labelcolor=TEXT, handlelength=1, columnspacing=1,
        )


def draw(figure, board, left, height, url, span):
    seconds = int(span[1] - span[0])
    for panel in board["panels"]:
        at = panel["gridPos"]
        # Of the whole figure; the first line of a panel is its title, the last ones its legend.
        x, w = (left + at["x"] * UNIT_WIDTH), at["w"] * UNIT_WIDTH
        y, h = height - (at["y"] + at["h"]) * UNIT_HEIGHT - 0.35, at["h"] * UNIT_HEIGHT
        place = lambda dx, dy, dw, dh: [(x + dx) / WIDTH, (y + dy) / height, (w - dw) / WIDTH, (h - dh) / height]
        if panel["type"] == "row":
            figure.text((x + 0.05) / WIDTH, (y + h / 2) / height, panel["title"], size=8, color=TEXT, weight="bold", va="center")
            continue
        figure.add_artist(plt.Rectangle((place(0.03, 0.03, 0, 0)[0], place(0.03, 0.03, 0, 0)[1]), (w - 0.06) / WIDTH, (h - 0.06) / height, color=CARD, zorder=-1))
        figure.text((x + 0.1) / WIDTH, (y + h - 0.13) / height, panel["title"], size=6.5, color=TEXT, va="center")
        if panel["type"] == "stat":
            draw_stat(figure.add_axes(place(0.1, 0.05, 0.2, 0.25), facecolor=CARD), panel, url, seconds)
        elif panel["type"] == "table":
            draw_table(figure.add_axes(place(0.15, 0.1, 0.3, 0.4), facecolor=CARD), panel, url, seconds)
        else:
            draw_graph(figure.add_axes(place(0.45, 0.5, 0.6, 0.78), facecolor=CARD), panel, url, span, seconds)


WIDTH = 2 * 24 * UNIT_WIDTH + 0.3


def main(url, path, seconds="60"):
    end = time.time()
    span = (end - float(seconds), end)
    boards = [json.loads((HERE / "dashboards" / f"{name}.json").read_text()) for name in ("chat", "vault")]
    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for board in boards for panel in board["panels"])
    height = rows * UNIT_HEIGHT + 0.45
    figure = plt.figure(figsize=(WIDTH, height), facecolor=BACK)
    for n, board in enumerate(boards):
        left = n * (24 * UNIT_WIDTH + 0.3)
        figure.text((left + 0.05) / WIDTH, 1 - 0.18 / height, board["title"], size=11, color=TEXT, weight="bold", va="center")
        draw(figure, board, left, height, url, span)
    image = io.BytesIO()
    figure.savefig(image, dpi=130, facecolor=BACK)
    # A few colors are enough, and a quarter of the size.
    Image.open(image).convert("RGB").quantize(64).save(path, optimize=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
