"""``penstock simulate``: what it prints and what it writes."""

from __future__ import annotations

import importlib.util
import weakref
import xml.etree.ElementTree as ET
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fakes.sim_scenarios import scenario
from fakes.simulate_run import answer, trace
from penstock.sim.figures import figures_of
from penstock.sim.simulate import simulate
from penstock.sim.static import Static
from penstock.traces.reading import read_trace

POLICIES = "static-mean,hpa-queue,static-peak"


def test_json_has_every_policy_with_what_it_attained_and_cost(run: Any) -> None:
    found = answer(run("--policy", POLICIES, "-o", "json"))
    assert (found["service"], found["requests"], found["startup_seconds"]) == ("prod/chat", 2400, 30.0)
    assert [each["policy"] for each in found["policies"]] == POLICIES.split(",")
    peak = found["policies"][2]
    assert peak["scale_ups"] == peak["scale_downs"] == 0
    assert peak["cost"] == pytest.approx(4.0 * peak["replica_hours"])
    assert peak["replica_hours"] == pytest.approx(peak["average_replicas"] * 599.75 / 3600)
    assert peak["ttft_seconds"]["p50"] <= peak["ttft_seconds"]["p95"] <= peak["ttft_seconds"]["p99"]
    assert 0.9 < peak["attainment_ratio"] <= 1.0


def test_the_same_seed_gives_the_same_answer_and_another_one_does_not(run: Any) -> None:
    options = ("--policy", "hpa-queue", "-o", "json", "--initial", "3", "--seed")
    first, again, other = (answer(run(*options, seed)) for seed in ("1", "1", "2"))
    assert first == again
    assert first["policies"] != other["policies"]


def test_the_operators_own_deciders_run_with_the_files_spare(run: Any) -> None:
    spared = {"min": 1, "max": 4, "spare": 1, "initialStartup": "30s"}
    found = answer(run("--policy", "penstock", "-o", "json", replicas=spared))
    assert found["initial_replicas"] == 2
    assert found["policies"][0]["average_replicas"] == 2.0


def test_a_window_is_cut_out_and_sped_up(run: Any) -> None:
    options = ("--from", "1m", "--for", "2m", "--speed-up", "2", "-o", "json", "--policy", "static-mean")
    found = answer(run(*options))
    assert (found["requests"], found["seconds"]) == (480, 60.0)


def test_a_window_of_a_trace_too_long_to_hold_is_simulated(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penstock.cli.simulate_window.read_trace", partial(read_trace, most=500))
    whole = run("--policy", "static-mean")
    assert (whole.exit_code, "trace.csv has more than 500 requests\n" in whole.stderr) == (2, True)
    window = run("--policy", "static-mean", "--from", "1m", "--for", "2m", "-o", "json")
    assert answer(window)["requests"] == 480


def test_no_request_of_a_run_is_held_once_it_is_summed_up() -> None:
    load = scenario(np.arange(100) / 4, 100, 10)
    run = simulate(load, Static(1), seed=1)
    requests = [run.ttft_seconds, run.tpot_seconds, run.latency_seconds, run.status]
    held = [weakref.ref(each) for each in requests]
    figures = figures_of(load, "static", run, None)
    del run, requests
    assert not [each for each in held if each() is not None]
    assert figures.timeline.at.size >= 1


def test_startup_options_are_taken_and_cost_time(run: Any) -> None:
    options = ("--policy", "static-mean", "-o", "json", "--startup", "5m", "--startup-p90", "8m")
    assert answer(run(*options, "--failed-starts", "20"))["startup_seconds"] == 300.0


def test_where_the_file_has_a_gateway_its_limit_holds_under_all_policies(run: Any) -> None:
    routed = {"type": "Envoy", "balancer": "LeastRequests"}
    limited = {"policy": "Static", "static": {"maxInFlightPerReplica": 1}}
    found = answer(run("--policy", "static-mean", "-o", "json", routing=routed, admission=limited))
    assert found["admission"] == {"running_per_replica": 1, "queued_per_replica": 0}
    assert found["policies"][0]["refused_ratio"] > 0.1


def test_the_table_names_what_all_policies_share_and_fits_eighty_columns(run: Any) -> None:
    result = run("--policy", POLICIES)
    assert result.exit_code == 0, result.output
    assert "Objectives: TTFT 500 ms and TPOT 50 ms, each request" in result.stdout
    assert "Replicas:   1 to 4, 1 at the start" in result.stdout
    rows = result.stdout.splitlines()[result.stdout.splitlines().index("") + 1 :]
    assert [row.split()[0] for row in rows[2:]] == POLICIES.split(",")
    assert max(map(len, rows)) <= 80


@pytest.mark.parametrize("columns", ["40", "80", "200"])
def test_a_long_name_is_folded_and_no_figure_is_cut(
    run: Any, monkeypatch: pytest.MonkeyPatch, columns: str
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    name = "penstock:scale_down_window_seconds=150:objective_ratio=0.95"
    result = run("--policy", f"{name},static-mean")
    assert result.exit_code == 0, result.output
    rows = [row.split() for row in result.stdout.splitlines()[result.stdout.splitlines().index("") + 3 :]]
    assert "".join(row[0] for row in rows[:-1]) == name
    assert all(len(row) == 1 for row in rows[1:-1])
    assert rows[0][1:] == rows[-1][1:] == ["100.00", "0.17", "1.00", "1", "29", "7", "0.00", "0/0", "0.67"]


def test_a_policys_knob_is_set_and_shown(run: Any) -> None:
    asked = "hpa-queue:queue=0.1,hpa-queue:queue=50"
    found = answer(run("--policy", asked, "-o", "json"))
    assert [each["policy"] for each in found["policies"]] == asked.split(",")


def test_the_page_is_well_formed_self_contained_and_has_plots_and_figures(run: Any, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    result = run("--policy", POLICIES, "--report", str(page))
    assert result.exit_code == 0, result.output
    text = page.read_text()
    root = ET.fromstring(text)
    html, svg = "{http://www.w3.org/1999/xhtml}", "{http://www.w3.org/2000/svg}"
    assert [each.text for each in root.iter(f"{html}h2")][:3] == ["Policies", "What attainment costs", "Load"]
    assert len(list(root.iter(f"{svg}svg"))) == 1 + 2 + 4 * 3
    rows = [[cell.text for cell in row] for row in root.iter(f"{html}tr")]
    assert [row[0] for row in rows[-3:]] == POLICIES.split(",")
    for path in root.iter(f"{svg}path"):
        assert "nan" not in path.attrib["d"]
        assert len(path.attrib["d"]) > 20
    assert len(list(root.iter(f"{svg}circle"))) == 3
    for forbidden in ("<script", "http-equiv", "@import", "src=", "href="):
        assert forbidden not in text
    linked = {part.split('"')[0] for part in text.split("http://")[1:]}
    assert linked == {"www.w3.org/1999/xhtml", "www.w3.org/2000/svg"}, "only names of languages"


def test_names_from_outside_are_escaped_in_the_page(run: Any, tmp_path: Path) -> None:
    requests = trace(tmp_path / "a<b>&c.csv")
    page = tmp_path / "report.html"
    result = run("--trace", str(requests), "--policy", "static-mean", "--report", str(page))
    assert result.exit_code == 0, result.output
    assert ET.fromstring(page.read_text()).find(".//{*}h1").text == "Scaling policies on a<b>&c.csv"  # type: ignore[union-attr]


def test_without_the_extra_it_says_what_to_install(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    result = run()
    assert result.exit_code == 2
    assert result.stderr == "Error: the simulation needs numba\nFix: pip install 'penstock[sim]'\n"


def test_an_interrupt_ends_it_with_130(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("penstock.cli.simulate._run", interrupted)
    result = run("--policy", "static-mean")
    assert (result.exit_code, result.stderr) == (130, "interrupted\n")
