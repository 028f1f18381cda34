"""The plan for people: what a reader finds, at 80 columns and without colours in a pipe."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from fakes.plan_run import SAMPLES, Run
from penstock.cli.plan_chart import chart
from penstock.cli.plan_service import read_service
from penstock.model.spec import Metric, Objective
from penstock.policy import wording

AZURE = ("--input-tokens", 1155, "--output-tokens", 211)
Service = Callable[..., Path]


def custom(timing: dict[str, Any]) -> dict[str, Any]:
    """The classifier's engine with another service time."""
    engine: dict[str, Any] = yaml.safe_load((SAMPLES / "classifier.yaml").read_text())["spec"]["engine"]
    return engine | {"serviceTime": timing}


def test_the_table_answers_why_this_count(run: Run, service: Service) -> None:
    file = service(slo={"ttft": {"p95": "300ms"}, "tpot": {"p95": "25ms"}}, replicas={"max": 50, "spare": 1})
    common = ("-f", file, "--rate", 100, *AZURE, "--balancer", "least-requests")
    count = run(*common, "-o", "json").plan["replicas"]
    lines = run(*common).stdout.splitlines()
    assert lines[0] == f"prod/chat: {count} replicas at 100 req/s, {count + 1} with 1 spare"
    assert lines[1].startswith(f"Why: {count - 1} give p95 TPOT ")
    assert f" ms > 25 ms; {count} give " in lines[1]
    table = lines.index(next(line for line in lines if line.startswith("replicas"))) + 1
    verdicts = {int(line.split()[0]): line.split("%")[-1].strip() for line in lines[table : table + 3]}
    assert verdicts == {count - 1: "breaks tpot.p95", count: "holds", count + 1: "holds"}


def test_the_table_shows_the_sums(run: Run, chat: Path) -> None:
    shown = run("-f", chat, "--rate", 40, *AZURE).stdout
    for line in (
        "Load         40 req/s, Poisson arrivals; 1,155 in, 211 out tokens",
        "Balancer     random (as kube-proxy spreads)",
        "KV of a token      131,072 bytes x 432,992 tokens = 56.8 GB on each GPU\n",
        "engine flags       --max-num-seqs ",
        "by 70% utilization",
        "five steps, x 1.3",
        "error budget        483,840 of 96,768,000 requests in 28 days at this rate",
        "cost                4 x 4.00 = 16.00 USD an hour",
        "per million tokens  0.527 USD of output (8440/s), spare included",
        "p95 TTFT against replicas (line: the objective, 500 ms)",
    ):
        assert line in shown
    room, held, sequences = re.search(
        r"KV memory +([\d,]+) tokens / ([\d,]+) a sequence = (\d+)", shown
    ).groups()
    assert int(sequences) == int(room.replace(",", "")) // int(held.replace(",", ""))
    plan = run("-f", chat, "--rate", 40, *AZURE, "-o", "json").plan
    first, each = plan["ttft_seconds"]["mean"], plan["tpot_seconds"]["mean"]
    total = wording.seconds(first + 210 * each)
    assert (
        f"latency budget      TTFT {wording.seconds(first)} + 210 tokens x {wording.seconds(each)} "
        f"= {total} (means)\n"
    ) in shown
    # 3.5 s x 131 sequences would be a queue of a million: the rule is of requests that wait for a worker.
    assert "rule of thumb" not in shown


def test_the_kv_of_a_token_is_that_of_each_gpu_and_is_left_out_where_the_profile_has_none(
    run: Run, service: Service
) -> None:
    def shown(profile: dict[str, Any]) -> str:
        return run("-f", service(engine={"type": "VLLM", "profile": profile}), "--rate", 1, *AZURE).stdout

    split = "KV of a token      81,920 bytes x 454,016 tokens = 37.2 GB on each GPU\n"
    assert split in shown({"type": "Named", "name": "llama-3.1-70b-h100-x4"})
    law = {"t0Milliseconds": "5", "gMillisecondsPerToken": "0.02", "kvCapacityTokens": 400_000}
    inline = shown({"type": "Inline", "inline": law})
    assert "KV memory          400,000 tokens" in inline
    assert "KV of a token" not in inline


def test_the_table_of_a_request_response_service_shows_its_sums(run: Run, service: Service) -> None:
    shown = run("-f", service("classifier"), "--rate", 300).stdout
    for line in (
        "queue, rule of thumb  10 to 15 a replica (2 to 3 x service ms x workers)\n",
        "by 70% utilization    3 replicas at 50%, whatever the objectives\n",
        "five steps, x 1.3     4 replicas; 50% after one is lost\n",
        "error budget          725,760 of 725,760,000 requests in 28 days at this rate\n",
        "cost                  4 x 0.60 = 2.40 USD an hour\n",
    ):
        assert line in shown
    for tokens_only in ("KV memory", "engine flags", "latency budget", "per million tokens", "batching tax"):
        assert tokens_only not in shown


def test_the_table_of_a_batching_service_shows_what_filling_a_batch_costs(run: Run, service: Service) -> None:
    timing = {"mean": "10ms", "concurrency": 2, "batching": {"maxBatch": 8, "fullBatchMean": "20ms"}}
    shown = run("-f", service("classifier", engine=custom(timing)), "--rate", 400, "--replicas", 4).stdout
    # 7 others at 50 a second and worker, half of them on average before one's own: 70 ms.
    assert "queue, rule of thumb  40 to 60 a replica (2 to 3 x service ms x workers)\n" in shown
    assert "batching tax          full batches of 8: 70 ms to fill, 90 ms with service\n" in shown


def test_a_pipe_gets_80_columns_without_colours_or_trailing_blanks(run: Run, service: Service) -> None:
    for file, load in ((service(), ("--rate", 40, *AZURE)), (service("classifier"), ("--rate", 600))):
        for line in run("-f", file, *load).stdout.splitlines():
            assert len(line) <= 80
            assert line == line.rstrip()
            assert "\x1b" not in line


def test_a_count_held_up_by_the_minimum_says_so(run: Run, service: Service) -> None:
    ran = run("-f", service(replicas={"min": 3, "max": 9}), "--rate", 1, *AZURE)
    assert "Why: spec.replicas.min; 1 replica would do\n" in ran.stdout


def test_a_count_that_breaks_is_not_called_good(run: Run, chat: Path) -> None:
    ran = run("-f", chat, "--rate", 100, *AZURE, "--replicas", 3)
    assert ran.exit_code == 0
    assert "Why: evaluated as asked, and will not do: saturated: they carry " in ran.stdout
    assert "no steady state, every wait grows without bound" in ran.stdout


def test_limits_name_the_engine_s_own_flags(run: Run, service: Service) -> None:
    profile = {"type": "Named", "name": "llama-3.1-8b-h100"}
    for engine, flag in (
        ("VLLM", "--max-num-queued-reqs"),
        ("SGLang", "--max-running-requests"),
        ("TGI", "--max-concurrent-requests"),
        ("LlamaCpp", "--parallel"),
    ):
        ran = run("-f", service(engine={"type": engine, "profile": profile}), "--rate", 10, *AZURE)
        assert flag in ran.stdout


def test_the_chart_puts_the_objective_at_the_same_place_in_every_line() -> None:
    class Fixed:
        def __init__(self, replicas: int, value: float) -> None:
            self.replicas, self.value = replicas, value

        def seconds(self, objective: Objective) -> float:
            return self.value

    outcomes: Any = [Fixed(1, float("inf")), Fixed(2, 0.75), Fixed(3, 0.5), Fixed(10, 0.05)]
    lines = chart(outcomes, Objective(Metric.TTFT, 0.95, 0.5), chosen=3, columns=60, ascii_only=True)
    assert len({line.index("|") for line in lines}) == 1
    assert lines[0].endswith("> unbounded")
    assert lines[2].startswith(">  3 #")
    assert [line.count("#") for line in lines] == sorted((line.count("#") for line in lines), reverse=True)
    # 500 ms of 500 ms reaches exactly to the line; 750 ms half as far again.
    assert lines[2].partition("|")[0].count("#") == lines[2].index("|") - lines[2].index("#")
    assert "#" not in lines[2].partition("|")[2]


def test_the_plot_is_a_png(run: Run, service: Service, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    for sample, load in (("chat", ("--rate", 40, *AZURE)), ("classifier", ("--rate", 300))):
        picture = tmp_path / f"{sample}.png"
        assert run("-f", service(sample), *load, "--plot", picture).exit_code == 0
        content = picture.read_bytes()
        assert content.startswith(b"\x89PNG\r\n\x1a\n")
        assert int.from_bytes(content[16:20], "big") > 1000  # wide enough to read


def test_a_plot_without_matplotlib_says_what_to_install(
    run: Run, chat: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "matplotlib" else found(name, *rest)
    )
    ran = run("-f", chat, "--rate", 40, *AZURE, "--plot", tmp_path / "plan.png")
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert ran.stderr == (
        "Error: --plot needs matplotlib, which is not installed\nFix: pip install 'penstock[plot]'\n"
    )
    assert not (tmp_path / "plan.png").exists()


def test_a_plot_that_cannot_be_written_is_refused(run: Run, chat: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / "nowhere" / "plan.png"
    ran = run("-f", chat, "--rate", 40, *AZURE, "--plot", path)
    assert ran.exit_code == 2
    assert ran.stderr == (
        f"Error: {path} cannot be written: No such file or directory\nFix: give a path that can be written\n"
    )


@pytest.mark.parametrize("sample", ["chat", "classifier"])
def test_the_samples_are_what_the_parser_takes(sample: str) -> None:
    spec = read_service(SAMPLES / f"{sample}.yaml")
    assert spec.key.name == sample
    assert spec.cost is not None


def test_the_first_service_of_several_documents_or_of_a_list_counts(run: Run, chat: Path) -> None:
    text = chat.read_text()
    alone = run("-f", chat, "--rate", 40, *AZURE, "-o", "json").plan
    several = "kind: ConfigMap\napiVersion: v1\n---\n" + text + "---\n" + text.replace("500ms", "1ms")
    assert run("-f", "-", "--rate", 40, *AZURE, "-o", "json", stdin=several).plan == alone
    listed = "kind: List\napiVersion: v1\nitems:\n" + "".join(
        f"{'- ' if number == 0 else '  '}{line}\n" for number, line in enumerate(text.splitlines())
    )
    assert run("-f", "-", "--rate", 40, *AZURE, "-o", "json", stdin=listed).plan == alone


def test_help_shows_examples_keys_and_exit_statuses(run: Run) -> None:
    text = run("--help").stdout
    for part in (
        "penstock plan -f service.yaml --trace trace.csv.gz",
        "cost_per_million_tokens",
        "3 no replica count",
    ):
        assert part in text


def test_ctrl_c_ends_with_130(run: Run, chat: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("penstock.cli.plan.read_service", interrupted)
    ran = run("-f", chat, "--rate", 40, *AZURE)
    assert (ran.exit_code, ran.stdout, ran.stderr) == (130, "", "interrupted\n")
