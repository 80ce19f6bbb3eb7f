"""What the benchmark makes of its samples, from those of the published run."""

import json
from dataclasses import replace

import pytest

from tools.benchmarks.contenders import AUTO, DEFERRED, MULTIUDPSINK, NAMES, PROMPT, REFERENCE
from tools.benchmarks.measure import quantile
from tools.benchmarks.plan import NOBODY, PLANS, Load, Plan
from tools.benchmarks.report import markdown
from tools.benchmarks.results import Figure, Results, Sample, WebSample
from tools.benchmarks.servers import HLS, LIVE, MP4
from tools.benchmarks.targets import verdicts
from tools.lab.process import ROOT

FULL = PLANS["full"]
LOW, HIGH = FULL.paced


@pytest.fixture
def published() -> Results:
    """The run in docs/bench.json, whatever day it was."""
    document = json.loads((ROOT / "docs" / "bench.json").read_text())
    return Results(
        plan=Plan(**document["plan"]),
        machine=document["machine"],
        samples=[Sample(**sample) for sample in document["samples"]],
        starts=document["starts"],
        memory=document["memory"],
        held=document["held"],
        web=[WebSample(**sample) for sample in document.get("web", [])],
    )


def test_the_tables_are_made_of_the_published_run(published: Results) -> None:
    """docs/bench.json gives docs/bench.md."""
    assert markdown(published) == (ROOT / "docs" / "bench.md").read_text()


def missed(results: Results) -> list[str]:
    """The measures that miss their target."""
    return [verdict.measure for verdict in verdicts(results) if verdict.met is False]


@pytest.mark.parametrize(
    ("name", "load", "changes", "measures"),
    [
        (AUTO, FULL.flood, {"egress": 1e5}, ["GStreamer multiudpsink", "C reference"]),
        (AUTO, LOW, {"p99": 0.013}, ["500/s to 100, relay"]),
        (AUTO, HIGH, {"p99": 0.013}, ["3,000/s to 100, relay"]),
        (PROMPT, LOW, {"p99": 0.002}, ["500/s to 100, relay --coalesce 0"]),
        (PROMPT, HIGH, {"p99": 0.002}, ["3,000/s to 100, relay --coalesce 0"]),
        (AUTO, FULL.scaled[-1], {"cpu_per_datagram": 3e-6}, ["n = 10, 100, 1,000"]),
        (AUTO, FULL.heavy_loads[0], {"lost": 17}, ["475/s to 2,000"]),
        (AUTO, FULL.heavy_loads[1], {"lag": 0.06}, ["1,900/s to 500"]),
    ],
)
def test_a_figure_beyond_its_limit_is_missed(
    published: Results, name: str, load: Load, changes: dict[str, float], measures: list[str]
) -> None:
    """Each figure that is worse than its target turns its verdict, and no other, to missed."""
    met = {"egress": 1e9, "lost": 0, "lag": 0.0}  # whatever was published
    published.samples = [
        replace(each, p99=each.p99 and 0.001, **(met if each.contender == AUTO else {}))  # type: ignore[arg-type]
        for each in published.samples
    ]
    before = missed(published)
    published.samples = [
        replace(each, **changes)  # type: ignore[arg-type]
        if (each.contender, each.load) == (name, str(load))
        else each
        for each in published.samples
    ]
    new = [measure for measure in missed(published) if measure not in before]
    assert len(new) == len(measures)
    assert all(measure.endswith(end) for measure, end in zip(new, measures, strict=True))


def test_more_than_the_peer_may_be_less_than_the_reference(published: Results) -> None:
    """Five times multiudpsink is enough for one verdict, and four fifths of C too little."""
    egress = {AUTO: 8e5, MULTIUDPSINK: 1.6e5, REFERENCE: 1e6}
    published.samples = [
        replace(each, egress=egress[each.contender])
        if each.contender in egress and each.load == str(FULL.flood)
        else each
        for each in published.samples
    ]
    [measure] = [each for each in missed(published) if each.startswith("egress")]
    assert measure.endswith("C reference")


@pytest.mark.parametrize(("ratio", "lost", "met"), [(1.9, 0, True), (2.1, 0, False), (1, 1, False)])
def test_deferred_viewers_have_a_limit(
    published: Results, ratio: float, lost: int, met: bool
) -> None:
    """They may cost twice what live ones do, and lose nothing."""
    live = published.of(AUTO, LOW)
    published.samples = [each for each in published.samples if each.contender != DEFERRED] + [
        replace(each, contender=DEFERRED, cpu_per_datagram=each.cpu_per_datagram * ratio, lost=lost)
        for each in live
    ]
    [verdict] = [each for each in verdicts(published) if each.measure.endswith("against live")]
    assert verdict.met is met


def test_starts_and_memory_have_limits(published: Results) -> None:
    """A slow start, a large process and heavy sessions are each missed."""
    published.starts = [0.3, 0.5, 0.6]
    published.memory |= {"rss_full": 61 << 20, "objects_full": 20 << 20}
    assert {
        "start to listening",
        "RSS, 1,000 sessions streaming",
        "Python objects per session",
    } <= set(missed(published))


def test_a_load_that_is_not_held_says_what_is(published: Results) -> None:
    """The verdict on a load with losses names the egress that was held."""
    load = str(FULL.heavy_loads[0])
    published.samples = [replace(s, lost=17) if s.load == load else s for s in published.samples]
    published.held[load] = 855_000.0
    values = [verdict.value for verdict in verdicts(published)]
    assert "held in 0 of 3 rounds, 51 lost; holds 855,000/s" in values


@pytest.fixture
def by_http() -> Results:
    """A run, of HTTP alone, that meets every target."""
    results = Results(FULL, {})
    for each in [*FULL.audiences, *FULL.remuxes]:
        delivered = each.viewers * each.megabits
        results.web.append(WebSample(LIVE, str(each), delivered, delivered * 7e-5, 1.0, 0))
        results.web.append(WebSample(MP4, str(each), delivered, delivered * 7e-5 + 0.01))
    results.web.append(WebSample(HLS, str(FULL.audiences[1]), 1000.0, 0.2, delay=2.9))
    for load in FULL.beside:
        p99 = 0.001 if load.beside == NOBODY else 0.0019
        results.samples.append(Sample(PROMPT, str(load), 47_500, 4e-6, 0.2, lost=0, p99=p99))
    return results


SOME, MANY, MOST = FULL.audiences
ONE = FULL.remuxes[0]


@pytest.mark.parametrize(
    ("name", "under", "changes", "measure"),
    [
        (LIVE, SOME, {"cpu": 0.033}, "CPU per megabit, relay /live.ts, 50 x 8 Mb/s"),
        (LIVE, MANY, {"skipped": 1}, "CPU per megabit, relay /live.ts, 200 x 5 Mb/s"),
        (LIVE, MOST, {"slowest": 0.9}, "of a core, relay /live.ts, 1,000 x 5 Mb/s"),
        (MP4, ONE, {"cpu": 0.02}, "of a core, relay /live.mp4 beyond relay /live.ts, 1 x 5 Mb/s"),
        (HLS, MANY, {"delay": 3.1}, "live delay, relay HLS, 200 x 5 Mb/s"),
        (PROMPT, FULL.beside[1], {"lost": 1},
         "latency p99, 475/s to 100, beside 200 of /live.ts, relay --coalesce 0"),
        (PROMPT, FULL.beside[3], {"p99": 0.0021},
         "latency p99, 475/s to 100, under a flood of requests, relay --coalesce 0"),
    ],
)  # fmt: skip
def test_by_http_each_figure_has_its_limit(
    by_http: Results, name: str, under: object, changes: dict[str, float], measure: str
) -> None:
    """Whatever is worse than its target by HTTP is missed, and nothing else is."""
    assert missed(by_http) == []
    by_http.web = [
        replace(each, **changes)  # type: ignore[arg-type]
        if (each.server, each.audience) == (name, str(under))
        else each
        for each in by_http.web
    ]
    by_http.samples = [
        replace(each, **changes)  # type: ignore[arg-type]
        if (each.contender, each.load) == (name, str(under))
        else each
        for each in by_http.samples
    ]
    assert missed(by_http) == [measure]


def test_what_was_not_measured_is_not_met() -> None:
    """Without samples no target counts as met, and the report still reads and says why."""
    nothing = Results(FULL, {"processor": "none"}, failures={REFERENCE: "it ended"})
    assert {verdict.met for verdict in verdicts(nothing)} == {None}
    assert "Not measured: C reference: it ended." in markdown(nothing)


def test_ratios_are_taken_within_a_round() -> None:
    """A machine that was slow for one round does not bend the ratio between contenders."""
    results = Results(FULL, {})
    for slowdown in (1.0, 0.5, 0.8):
        for name, egress in ((AUTO, 1.9e6), (MULTIUDPSINK, 0.3e6)):
            results.samples.append(Sample(name, str(FULL.flood), egress * slowdown, 1e-6, 1.0))
    ratio = results.ratio(MULTIUDPSINK, FULL.flood, "egress")
    assert ratio.values == pytest.approx([1.9 / 0.3] * 3)
    assert Figure([1.0, 3.0, 2.0]).text("{:.0f}") == "2 (1 to 3)"


@pytest.mark.parametrize(("share", "value"), [(0.0, 1.0), (0.5, 50.0), (0.99, 99.0), (1.0, 100.0)])
def test_quantiles_are_values_that_occurred(share: float, value: float) -> None:
    """The quantile of 1 to 100 is the smallest value that enough of them do not exceed."""
    assert quantile([float(n) for n in range(1, 101)], share) == value


def test_rounds_are_interleaved() -> None:
    """Within a round every contender is measured under a load before anyone is under the next."""
    names = [name for name, load in FULL.measurements(NAMES) if load == FULL.flood]
    assert names == list(NAMES) * FULL.repetitions
