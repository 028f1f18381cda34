"""``penstock simulate``: what it prints, what it writes, and what it refuses."""

from __future__ import annotations

import importlib.util
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import yaml
from click.testing import CliRunner, Result

from penstock.cli.simulate import simulate

POLICIES = "static-mean,hpa-queue,static-peak"


def service(path: Path, **spec: Any) -> Path:
    """Write the file of a service ``prod/chat``."""
    body = {
        "apiVersion": "serving.penstock.dev/v1alpha1",
        "kind": "InferenceService",
        "metadata": {"name": "chat", "namespace": "prod"},
        "spec": {
            "mode": "Enforce",
            "workload": {
                "type": "Target",
                "targetRef": {"group": "apps", "kind": "Deployment", "name": "chat"},
                "serviceRef": {"name": "chat"},
            },
            "slo": {"ttft": {"p95": "500ms"}, "tpot": {"p95": "50ms"}},
            "engine": {"type": "VLLM", "profile": {"type": "Named", "name": "llama-3.1-8b-h100"}},
            "replicas": {"min": 1, "max": 4, "initialStartup": "30s"},
            "cost": {"perReplicaHour": "4.00", "currency": "USD"},
        }
        | spec,
    }
    path.write_text(yaml.safe_dump(body))
    return path


def trace(path: Path, rows: Sequence[tuple[float, int, int]] | None = None) -> Path:
    """Write a trace; by default 4 requests a second for ten minutes, lengths by chance."""
    if rows is None:
        random = np.random.default_rng(3)
        lengths = random.integers(20, 400, (2400, 2)).tolist()
        rows = [(index / 4, *pair) for index, pair in enumerate(lengths)]
    lines = [f"{at},{prompt},{answer}" for at, prompt, answer in rows]
    path.write_text("\n".join(["arrival_s,input_tokens,output_tokens", *lines]) + "\n")
    return path


@pytest.fixture
def run(tmp_path: Path) -> Any:
    def invoke(*options: str, **spec: Any) -> Result:
        file, requests = service(tmp_path / "service.yaml", **spec), tmp_path / "trace.csv"
        if not requests.exists():
            trace(requests)
        arguments = ["-f", str(file), "--trace", str(requests), *options]
        return CliRunner().invoke(simulate, arguments)

    return invoke


def answer(result: Result) -> Any:
    assert result.exit_code == 0, result.output
    return orjson.loads(result.stdout_bytes)


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


@pytest.mark.parametrize(
    ("options", "spec", "message"),
    [
        (
            ("--policy", "penstok"),
            {},
            "no policy is named 'penstok'\nFix: write some of penstock, hpa-q",
        ),
        (("--policy", ","), {}, "no policy is named\nFix: write some of penstock, "),
        (("--policy", "hpa-queue:queue"), {}, "--policy hpa-queue:queue: 'queue' is no setting\n"),
        (
            ("--policy", "hpa-queue:depth=2"),
            {},
            "--policy hpa-queue:depth=2: policy 'hpa-queue' has no",
        ),
        (
            ("--profile", "llama-9b"),
            {},
            "--profile: no engine profile is named 'llama-9b'\nFix: write ",
        ),
        (
            ("--from", "20m"),
            {},
            "trace.csv has no request from 1,200 s on: it goes from 0 s to 600 s\n",
        ),
        (("--initial", "9"), {}, "--initial 9: spec.replicas is 1 to 4\n"),
        (("--startup", "60s", "--startup-p90", "30s"), {}, "p90_seconds"),
        (
            (),
            {"replicas": {"min": 1, "max": 65}},
            "spec.replicas.max is 65: at most 64 replicas are",
        ),
        ((), {"slo": {"ttft": {"p95": "500ms"}}}, "spec.slo has no tpot: each request is judged by"),
        (
            (),
            {"engine": {"type": "VLLM", "profile": {"type": "Learned"}}},
            "spec.engine.profile: type Le",
        ),
        (
            (),
            {
                "engine": {"type": "VLLM", "serviceTime": {"mean": "5ms"}},
                "slo": {"latency": {"p99": "50ms"}},
            },
            "spec.engine.serviceTime: request/response services have no tokens to simulate\n",
        ),
    ],
)
def test_what_cannot_be_simulated_is_refused_with_a_fix(
    run: Any, options: tuple[str, ...], spec: dict[str, Any], message: str
) -> None:
    result = run(*options, **spec)
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert "\nFix: " in result.stderr


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([(1.0, 10, 10), (0.5, 10, 10)], "line 3: arrival_s 0.5 is before line 2's 1"),
        ([(1.0, -10, 10)], "line 2: input_tokens is '-10'"),
        ([], "has no requests"),
    ],
)
def test_a_trace_that_cannot_be_used_names_the_line(
    run: Any, tmp_path: Path, rows: list[tuple[float, int, int]], message: str
) -> None:
    trace(tmp_path / "trace.csv", rows)
    result = run()
    assert result.exit_code == 2
    assert message in result.stderr


def test_a_prompt_that_fits_no_engine_is_refused(run: Any, tmp_path: Path) -> None:
    trace(tmp_path / "trace.csv", [(0.0, 900_000, 10), (9.0, 10, 10)])
    result = run("--policy", "static-mean")
    assert result.exit_code == 2
    assert "cannot hold request 0 of 900010 tokens" in result.stderr


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
