"""What the benchmark makes of its samples, from those of the published run."""

import json

import pytest

from tools.benchmarks.contenders import NAMES, REFERENCE
from tools.benchmarks.measure import quantile
from tools.benchmarks.plan import PLANS, Plan
from tools.benchmarks.report import markdown
from tools.benchmarks.results import Figure, Measurement, Results, WebSample
from tools.lab.process import ROOT

FULL = PLANS["full"]


def test_the_tables_are_made_of_the_published_run() -> None:
    """docs/bench.json, whatever day it was made, gives docs/bench.md."""
    document = json.loads((ROOT / "docs" / "bench.json").read_text())
    results = Results(
        plan=Plan(**document["plan"]),
        machine=document["machine"],
        samples=[Measurement(**sample) for sample in document["samples"]],
        starts=document["starts"],
        memory=document["memory"],
        web=[WebSample(**sample) for sample in document["web"]],
    )
    assert markdown(results) == (ROOT / "docs" / "bench.md").read_text()


def test_what_was_not_measured_is_said() -> None:
    """Without samples the report still reads, and says why."""
    nothing = Results(FULL, {"processor": "none"}, failures={REFERENCE: "it ended"})
    assert "Not measured: C reference: it ended." in markdown(nothing)


def test_a_figure_is_a_median_with_its_range() -> None:
    """The range is left out where all rounds read the same."""
    assert Figure([1.0, 3.0, 2.0]).text("{:.0f}") == "2 (1 to 3)"
    assert Figure([1.9, 2.1]).text("{:.0f}") == "2"
    assert Figure([]).text("{:.0f}") == "-"


@pytest.mark.parametrize(("share", "value"), [(0.0, 1.0), (0.5, 50.0), (0.99, 99.0), (1.0, 100.0)])
def test_quantiles_are_values_that_occurred(share: float, value: float) -> None:
    """The quantile of 1 to 100 is the smallest value that enough of them do not exceed."""
    assert quantile([float(n) for n in range(1, 101)], share) == value


def test_rounds_are_interleaved() -> None:
    """Within a round every contender is measured under a load before anyone is under the next."""
    names = [name for name, load in FULL.measurements(NAMES) if load == FULL.flood]
    assert names == list(NAMES) * FULL.repetitions
