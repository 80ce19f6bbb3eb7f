"""A real Prometheus: it scrapes the relay, and takes the rules and the dashboard's queries."""

import json
import re
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tools.lab.process import ROOT, ChildProcess, need, wait_for
from tools.lab.relay import RelayProcess
from tools.lab.sockets import unused_port
from tools.lab.web import http_port

CONTRIB = ROOT / "contrib"
RULES = CONTRIB / "prometheus-rules.yml"

# Series over five minutes, a point every 15 s, and which alert they cause.
CASES = {
    "RelayDown": 'up{job="relay"}',
    "RelayNoSource": "relay_source_active",
    "RelayVerdict": 'relay_verdict{word="source"}',
    "RelayDrops": 'relay_dropped_datagrams_total{cause="send_buffer"}',
    "RelayBusy": "relay_loop_busy_seconds_total",
}
FAULTY = {"RelayDown": "0x20", "RelayNoSource": "0x20", "RelayVerdict": "1x20",
          "RelayDrops": "0+15x20", "RelayBusy": "0+14x20"}  # fmt: skip
FINE = {"RelayDown": "1x20", "RelayNoSource": "1x20", "RelayVerdict": "0x20",
        "RelayDrops": "7x20", "RelayBusy": "0+3x20"}  # fmt: skip


def promtool(*words: str | Path) -> str:
    """Run it; it must find nothing wrong."""
    need("promtool")
    done = subprocess.run(
        ["promtool", *map(str, words)], text=True, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def queries() -> list[str]:
    """Return the queries of the dashboard, with values for its variables."""
    dashboard = json.loads((CONTRIB / "grafana.json").read_text())
    found = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    assert len(found) > 20
    return [
        each.replace("$__rate_interval", "1m").replace("$instance", "localhost:8080")
        for each in found
    ]


def exported() -> set[str]:
    """Return the metrics' names, by docs/STATUS.md, to which `test_status` compares the relay."""
    rows = re.findall(r"^\| `(relay_\w+)` \| (\w+) \|", (ROOT / "docs/STATUS.md").read_text(), re.M)
    names = {name for name, _ in rows}
    return names | {f"{name}_bucket" for name, kind in rows if kind == "histogram"}


def test_configuration_and_rules() -> None:
    """Promtool accepts them, and finds the rules where the configuration says."""
    assert "1 rule files found" in promtool("check", "config", CONTRIB / "prometheus.yml")
    promtool("check", "rules", RULES)


def test_only_exported_metrics_are_named(tmp_path: Path) -> None:
    """Rules and dashboard ask for what there is, and Prometheus understands the queries."""
    text = "\n".join([RULES.read_text(), *queries()])
    named = set(re.findall(r"\brelay_\w+", text))
    assert named <= exported()
    as_rules = [
        {"record": f"query_{number}", "expr": query} for number, query in enumerate(queries())
    ]
    file = tmp_path / "queries.yml"  # JSON is YAML
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": as_rules}]}))
    assert f"{len(as_rules)} rules found" in promtool("check", "rules", file)


@pytest.mark.parametrize(("values", "fires"), [(FAULTY, True), (FINE, False)])
def test_alerts(tmp_path: Path, values: dict[str, str], fires: bool) -> None:
    """Each alert fires when its fault has lasted, and not without it."""
    firing = re.findall(r"alert: (\w+)", RULES.read_text())
    assert set(firing) == set(CASES)
    tests = []
    for name, series in CASES.items():
        query = f'count(ALERTS{{alertname="{name}",alertstate="firing"}}) or vector(0)'
        expected = [{"labels": "{}", "value": int(fires)}]
        tests.append({
            "interval": "15s",
            "input_series": [{"series": series, "values": values[name]}],
            "promql_expr_test": [{"expr": query, "eval_time": "5m", "exp_samples": expected}],
        })  # fmt: skip
    file = tmp_path / "tests.yml"
    file.write_text(
        json.dumps({"rule_files": [str(RULES)], "evaluation_interval": "15s", "tests": tests})
    )
    assert "SUCCESS" in promtool("test", "rules", file)


def ask(port: int, path: str) -> Any:
    """Ask Prometheus' interface; None: it does not answer yet."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/{path}") as response:
            return json.load(response)["data"]
    except OSError:
        return None


def test_a_real_scrape(tmp_path: Path) -> None:
    """With our configuration but for the address, Prometheus finds the relay up, and its values."""
    need("prometheus")
    with RelayProcess("--http", "127.0.0.1:0") as relay:
        port = unused_port()
        config = (CONTRIB / "prometheus.yml").read_text()
        (tmp_path / RULES.name).write_text(RULES.read_text())
        file = tmp_path / "prometheus.yml"
        file.write_text(
            config.replace("localhost:8080", f"localhost:{http_port(relay)}").replace("5s", "1s")
        )
        words = (
            f"--config.file={file}",
            f"--storage.tsdb.path={tmp_path}/data",
            f"--web.listen-address=127.0.0.1:{port}",
        )
        with ChildProcess("prometheus", *words):
            query = "query?query=relay_source_active"
            wait_for(lambda: (d := ask(port, query)) and d["result"], "a scrape")
            (target,) = ask(port, "targets")["activeTargets"]
            assert (target["health"], target["lastError"]) == ("up", "")
            rules = [rule for group in ask(port, "rules")["groups"] for rule in group["rules"]]
            assert len(rules) == len(CASES)
