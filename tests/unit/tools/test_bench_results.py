"""What the benchmark makes of its samples: medians, ratios of one round, and targets."""

import dataclasses
from pathlib import Path

import pytest

from relaylib.errors import SetupError
from tools import bench
from tools.benchmarks import machine, report
from tools.benchmarks.contenders import AUTO, MULTIUDPSINK, NAMES, PROMPT, REFERENCE
from tools.benchmarks.measures import Latency, Load, Memory, Sample, quantile
from tools.benchmarks.plan import FULL
from tools.benchmarks.results import Results, figure, holds
from tools.benchmarks.targets import Verdict, verdicts

EGRESS = {MULTIUDPSINK: 300_000.0, REFERENCE: 2_000_000.0}
COST = {MULTIUDPSINK: 4e-6}


def sample(name: str, load: Load) -> Sample:
    """A sample that meets every target."""
    return Sample(
        contender=name,
        load=load,
        egress=EGRESS.get(name, 1_900_000.0),
        cpu_per_datagram=COST.get(name, 1e-6),
        cpu=0.5,
        lost=0,
        lag=0.01,
        latency=Latency(0.0002, 0.001, 0.002) if load.probes else None,
    )


def good() -> Results:
    """The results of a run in which every target is met."""
    memory = Memory(1000, 20 << 20, 40 << 20, 1 << 20, 3 << 20)
    results = Results(starts=[0.1, 0.2, 0.15], memory=memory)
    results.samples = [sample(name, load) for name, load in FULL.measurements(NAMES)]
    return results


def change(results: Results, name: str, load: Load, **changes: object) -> Results:
    """The same results with some fields of one contender's samples under one load changed."""
    results.samples = [
        dataclasses.replace(each, **changes)  # type: ignore[arg-type]
        if (each.contender, each.load) == (name, load)
        else each
        for each in results.samples
    ]
    return results


def missed(results: Results) -> list[Verdict]:
    """The verdicts that are not `met`."""
    return [verdict for verdict in verdicts(results, FULL) if verdict.met is not True]


def test_every_target_can_be_met() -> None:
    """With figures on the right side of every limit nothing is missed."""
    assert missed(good()) == []


LOW, HIGH = FULL.paced
SLOW = Latency(0.001, 0.013, 0.02)


@pytest.mark.parametrize(
    ("name", "load", "changes", "count"),
    [
        (AUTO, FULL.flood, {"egress": 1_150_000.0}, 2),
        (AUTO, FULL.flood, {"egress": 1_750_000.0}, 1),
        (AUTO, LOW, {"cpu_per_datagram": 2.1e-6}, 2),
        (AUTO, LOW, {"latency": SLOW}, 1),
        (AUTO, HIGH, {"latency": SLOW}, 1),
        (PROMPT, LOW, {"latency": SLOW}, 1),
        (PROMPT, HIGH, {"latency": Latency(0.001, 0.0016, 0.0017)}, 1),
        (AUTO, FULL.scaled[-1], {"cpu_per_datagram": 1.2e-6}, 1),
    ],
)
def test_a_figure_beyond_its_limit_is_missed(
    name: str, load: Load, changes: dict[str, object], count: int
) -> None:
    """Each figure that is worse than its target turns its verdict, and no other, to missed."""
    verdicts_against = missed(change(good(), name, load, **changes))
    assert [verdict.word for verdict in verdicts_against] == ["MISSED"] * count


def test_a_load_that_is_not_held_says_what_is() -> None:
    """A heavy load with losses is missed, and the verdict names the egress that was held."""
    load = FULL.heavy[0]
    results = change(good(), AUTO, load, lost=17)
    results.held[str(load)] = 855_000.0
    (verdict,) = missed(results)
    assert verdict.value == "held in 0 of 3 rounds, 51 lost; holds 855,000/s"


def test_starts_and_memory_have_limits() -> None:
    """A slow start, a large process and heavy sessions are each missed."""
    results = good()
    results.starts = [0.3, 0.5, 0.6]
    results.memory = Memory(1000, 20 << 20, 61 << 20, 0, 9 << 20)
    assert [verdict.measure for verdict in missed(results)] == [
        "start to listening",
        "RSS, 1,000 sessions streaming",
        "Python objects per session",
    ]


def test_what_was_not_measured_is_not_met() -> None:
    """Without samples no target counts as met, and the report still reads."""
    assert {verdict.word for verdict in verdicts(Results(), FULL)} == {"not measured"}
    assert "not measured" in report.markdown(Results(), FULL, {"processor": "none"})


def test_holding_needs_no_loss_and_no_backlog() -> None:
    """A load counts as held only when nothing was lost and the stream did not pile up."""
    fine = sample(AUTO, FULL.heavy[0])
    assert holds(fine)
    assert not holds(dataclasses.replace(fine, lost=1))
    assert not holds(dataclasses.replace(fine, lag=0.06))


def test_ratios_are_taken_within_a_round() -> None:
    """A machine that was slow for one round does not bend the ratio between contenders."""
    results = Results()
    for slowdown in (1.0, 0.5, 0.8):
        for name in (AUTO, MULTIUDPSINK):
            each = sample(name, FULL.flood)
            results.samples.append(dataclasses.replace(each, egress=each.egress * slowdown))
    ratio = results.ratio((AUTO, MULTIUDPSINK), FULL.flood, "egress")
    assert ratio is not None
    assert ratio.low == pytest.approx(ratio.high) == pytest.approx(1.9 / 0.3)


def test_no_samples_give_no_figure() -> None:
    """A contender that was not measured has neither a summary nor a ratio."""
    results = good()
    assert results.ratio((AUTO, "nobody"), FULL.flood, "egress") is None
    assert results.figure("nobody", FULL.flood, "egress") is None
    assert figure([]) is None


@pytest.mark.parametrize(("share", "value"), [(0.0, 1.0), (0.5, 50.0), (0.99, 99.0), (1.0, 100.0)])
def test_quantiles_are_values_that_occurred(share: float, value: float) -> None:
    """The quantile of 1 to 100 is the smallest value that enough of them do not exceed."""
    assert quantile([float(n) for n in range(1, 101)], share) == value


def test_rounds_are_interleaved() -> None:
    """Within a round every contender is measured under a load before anyone is under the next."""
    names = [name for name, load in FULL.measurements(NAMES) if load == FULL.flood]
    assert names == list(NAMES) * FULL.repetitions


def test_publishing_replaces_what_is_between_the_marks(tmp_path: Path) -> None:
    """README.md shows the newest tables, once, and keeps the rest as it was."""
    output, readme = tmp_path / "build", tmp_path / "README.md"
    output.mkdir()
    readme.write_text("before\n<!-- bench -->\nold\n<!-- bench -->\nafter\n")
    for table in ("first\n", "second\n"):
        for name in ("bench.json", "bench.md", "bench.svg"):
            (output / name).write_text(table)
        bench.publish(output, tmp_path)
    shown = "before\n<!-- bench -->\n\nsecond\n\n<!-- bench -->\nafter\n"
    assert readme.read_text() == shown
    assert (tmp_path / "docs" / "bench.svg").read_text() == "second\n"


def test_publishing_says_where_the_tables_would_go(tmp_path: Path) -> None:
    """Without the marks nothing is changed, and the message names them."""
    (tmp_path / "README.md").write_text("no marks\n")
    with pytest.raises(SetupError, match="<!-- bench -->"):
        bench.publish(tmp_path, tmp_path)
    assert (tmp_path / "README.md").read_text() == "no marks\n"


def test_readme_shows_the_published_tables() -> None:
    """The tables in README.md are those of docs/bench.md."""
    _, shown, _ = (machine.ROOT / "README.md").read_text().split("<!-- bench -->\n")
    assert shown.strip() == (machine.ROOT / "docs" / "bench.md").read_text().strip()
