"""The chart of a run: who sends how much, how soon, and at what cost. SVG, by matplotlib.

matplotlib is imported when a chart is drawn, so that measuring works without it. Text stays text in
the file: small, searchable, and sharp at every size.
"""

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relaylib.errors import SetupError
from tools.benchmarks.contenders import AUTO, PROMPT
from tools.benchmarks.results import Figure, Results
from tools.benchmarks.servers import HLS, LIVE, NGINX, TCPSERVERSINK

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

_OURS, _PEER, _INK, _QUIET, _FAINT = "#0b6bcb", "#a9b1ba", "#1f2328", "#59636e", "#d8dee4"
_RELAY = (AUTO, "beside", "under")  # and what goes on beside it
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "relay",  # the same figures give the same file
    "font.family": "sans-serif",
    "font.sans-serif": ["Helvetica", "Arial", "DejaVu Sans"],
    "font.size": 9,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "axes.edgecolor": _FAINT,
}


def require() -> None:
    """Raise SetupError when matplotlib is missing: rather before the measuring than after it."""
    if importlib.util.find_spec("matplotlib") is None:
        raise SetupError("no matplotlib for the chart: .venv/bin/pip install -e '.[bench]'")


def _is_ours(name: str) -> bool:
    return name.startswith(_RELAY)


def _colour(name: str) -> str:
    return _OURS if _is_ours(name) else _PEER


def _frame(axes: "Axes", title: str, subtitle: str, names: Sequence[str]) -> None:
    """What all panels share: a title, no box, the contenders from the top down."""
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold", pad=22)
    axes.text(0, 1.03, subtitle, transform=axes.transAxes, fontsize=8.5, color=_QUIET)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.grid(axis="x", color=_FAINT, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(length=0)


def _label(axes: "Axes", x: float, y: float, text: str, **style: Any) -> None:
    """Words just to the right of a point."""
    axes.annotate(text, (x, y), (6, 0), textcoords="offset points", va="center", **style)


def _bars(axes: "Axes", figures: dict[str, Figure], style: str) -> None:
    """A bar for each median, its range as a thin line, the median in figures after both."""
    for row, (name, found) in enumerate(figures.items()):
        if not found:
            _label(axes, 0, row, "not measured", color=_QUIET)
            continue
        low, high = min(found.values), max(found.values)
        axes.barh(row, found.median, color=_colour(name), height=0.62)
        axes.plot([low, high], [row, row], color=_INK, linewidth=1)
        weight = "bold" if _is_ours(name) else "normal"
        _label(axes, high, row, style.format(found.median), fontweight=weight)
    everything = [value for found in figures.values() for value in found.values]
    axes.set_xlim(0, 1.2 * max(everything, default=1))


def _three_digits(value: float) -> str:
    digits = 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:,.{digits}f}"


def _dots(axes: "Axes", results: Results) -> None:
    """A marker for each rate on a logarithmic scale, with the range over the rounds."""
    for load, marker, filled in zip(results.plan.paced, "oD", (False, True), strict=True):
        for row, name in enumerate(results.contenders):
            if found := results.figure(name, load, "p99") * 1e3:
                low, high = min(found.values), max(found.values)
                place, colour = row + (0.19 if filled else -0.19), _colour(name)
                face = colour if filled else "white"
                axes.plot([low, high], [place, place], color=colour)
                axes.plot(found.median, place, marker, color=colour, mfc=face, markersize=6)
                _label(axes, high, place, _three_digits(found.median), fontsize=8)
        label = f"{load.rate:,}/s in"
        axes.plot([], [], marker, color=_INK, mfc=_INK if filled else "white", label=label, ls="")
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:,g}")
    axes.minorticks_off()
    axes.margins(x=0.2)
    axes.legend(  # beside the title
        loc="lower right", bbox_to_anchor=(1.03, 1.06), ncols=2, fontsize=8.5, frameon=False,
        handletextpad=0, columnspacing=0.8,
    )  # fmt: skip


def _by_http(canvas: "Canvas", results: Results) -> None:
    """The lower row: what viewers over TCP cost, and what they do to those over UDP."""
    many = results.plan.audiences[1]
    left = canvas.add_axes((0.145, 0.085, 0.26, 0.27))
    costs = {
        name: results.web_figure(name, many, "cost") * 1e3
        for name in (LIVE, TCPSERVERSINK, HLS, NGINX)
    }
    _frame(left, "CPU by TCP", f"CPU-ms per megabit, {many}; less is better", list(costs))
    _bars(left, costs, "{:.3f}")
    right = canvas.add_axes((0.585, 0.085, 0.4, 0.27))
    loads = results.plan.beside
    late = {load.meanwhile: results.figure(PROMPT, load, "p99") * 1e3 for load in loads}
    subtitle = f"99th percentile, ms; {PROMPT}, {loads[0].rate:,}/s in; less is better"
    _frame(right, "Latency by UDP beside HTTP", subtitle, list(late))
    _bars(right, late, "{:.2f}")


def draw(results: Results, path: Path) -> None:
    import matplotlib as mpl  # noqa: PLC0415 - see the module's docstring
    from matplotlib.figure import Figure as Canvas  # noqa: PLC0415 - the same

    plan, machine, names = results.plan, results.machine, results.contenders
    with mpl.rc_context(_STYLE):
        canvas = Canvas(figsize=(11.5, 7.2), facecolor="white")
        left, middle, right = canvas.subplots(1, 3, sharey=True)
        canvas.subplots_adjust(left=0.145, right=0.985, top=0.9, bottom=0.5, wspace=0.12)
        _frame(left, "Egress", "thousand datagrams/s, flooded; more is better", names)
        egress = {name: results.figure(name, plan.flood, "egress") * 1e-3 for name in names}
        _bars(left, egress, "{:,.0f}")
        _frame(middle, "Latency", "one way, 99th percentile, ms (log); less is better", names)
        _dots(middle, results)
        lower = plan.paced[0]
        subtitle = f"µs per datagram sent, {lower.rate:,}/s in; less is better"
        _frame(right, "CPU", subtitle, names)
        cpu = {name: results.figure(name, lower, "cpu_per_datagram") * 1e6 for name in names}
        _bars(right, cpu, "{:.2f}")
        _by_http(canvas, results)
        footer = f"by UDP to {plan.destinations:,} destinations; one core for each contender"
        footer = "; ".join([footer, machine["processor"], machine["kernel"]])
        canvas.text(0.145, 0.02, footer, fontsize=8, color=_QUIET)
        canvas.savefig(path, format="svg", metadata={"Date": None})
