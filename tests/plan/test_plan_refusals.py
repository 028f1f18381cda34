"""What `penstock plan` refuses, with which exit status, and what it says to write instead."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fakes.plan_run import Run

AZURE = ("--input-tokens", 1155, "--output-tokens", 211)
LOAD = ("--rate", 40, *AZURE)
Service = Callable[..., Path]


SERVICE = "kind: InferenceService\napiVersion: serving.penstock.dev/v1alpha1\nmetadata: {name: chat}\n"
WORKLOAD = "spec:\n  workload: {targetRef: {name: chat}}\n"
EXAMPLE = "manifests/samples/chat.yaml shows one"
ADD = (
    "add a document with apiVersion: serving.penstock.dev/v1alpha1 and kind: InferenceService; "
    "manifests/samples/chat.yaml shows one"
)
NONE_HERE = "standard input has no InferenceService of serving.penstock.dev, only"


@pytest.mark.parametrize(
    ("text", "cause", "fix"),
    [
        ("", "standard input is empty", f"write an InferenceService; {EXAMPLE}"),
        (
            "kind: Deployment\napiVersion: apps/v1\n---\nkind: Service\napiVersion: v1\n",
            f"{NONE_HERE} Deployment (apps/v1), Service (v1)",
            ADD,
        ),
        (
            "kind: InferenceService\napiVersion: serving.kserve.io/v1beta1\n",
            f"{NONE_HERE} InferenceService (serving.kserve.io/v1beta1)",
            ADD,
        ),
        (
            "kind: InferenceService\napiVersion: serving.penstock.dev/v2\n",
            "standard input: apiVersion serving.penstock.dev/v2 is not known",
            "write serving.penstock.dev/v1alpha1",
        ),
        (
            "a: [1,\nb: }",
            "standard input, line 2, column 4: expected the node content, but found '}'",
            "correct the YAML",
        ),
        *(
            (f"a: {value}\n", f"standard input, line 1, column 4: {said}", "correct the YAML")
            for value, said in (
                ("2026-02-30", "'2026-02-30' is no timestamp"),
                ("!!timestamp abc", "'abc' is no timestamp"),
                ("!!int abc", "'abc' is no int"),
                ('!!int ""', "'' is no int"),
                ("!!float abc", "'abc' is no float"),
                ("!!bool abc", "'abc' is no bool"),
                ("9" * 5000, f"'{'9' * 40}' is no int"),  # more digits than Python takes for one
            )
        ),
        ("a: " + "[" * 100_000, "standard input: nested too deeply", "correct the YAML"),
        (
            "- just\n- a list\n",
            "standard input, document 1: a list instead of an object",
            f"write an InferenceService; {EXAMPLE}",
        ),
        (
            SERVICE + WORKLOAD + "  slo: {ttft: {p95: 0.5s}}\n",
            'standard input: spec.slo.ttft.p95: "0.5s" is not a duration',
            "write a duration from 1ms to 10m without decimals, for example 500ms, 2s or 1m30s",
        ),
        (
            SERVICE + WORKLOAD,
            "standard input: spec.slo: missing",
            "state an objective, for example slo: {ttft: {p95: 500ms}}",
        ),
    ],
)
def test_a_file_without_a_usable_service_is_refused(run: Run, text: str, cause: str, fix: str) -> None:
    ran = run("-f", "-", *LOAD, stdin=text)
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert ran.stderr == f"Error: {cause}\nFix: {fix}\n"


def test_a_learned_profile_cannot_be_planned_off_line(run: Run, service: Service) -> None:
    ran = run("-f", service(engine={"type": "VLLM"}), *LOAD)
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert ran.stderr == (
        "Error: spec.engine.profile: type Learned takes its timing from a running engine, a plan has none\n"
        "Fix: write engine: {profile: {type: Named, name: llama-3.1-8b-h100}}, an Inline profile, or for a "
        'request/response service engine: {serviceTime: {mean: 5ms, scv: "0.1", concurrency: 1}}\n'
    )


def test_an_unknown_profile_is_answered_with_its_neighbours(run: Run, service: Service) -> None:
    ran = run("-f", service(engine={"profile": {"type": "Named", "name": "llama-3.1-8b-h10"}}), *LOAD)
    assert ran.exit_code == 2
    assert ran.stderr.startswith(
        "Error: spec.engine.profile.name: no engine profile is named 'llama-3.1-8b-h10'\n"
        "Fix: write one of the closest, llama-3.1-8b-h100, "
    )


def test_prompts_that_do_not_fit_into_memory_are_refused(run: Run, chat: Path) -> None:
    ran = run("-f", chat, "--rate", 1, "--input-tokens", 1_000_000, "--output-tokens", 211)
    assert ran.exit_code == 2
    assert "tokens of context on average, the KV memory of llama-3.1-8b-h100 432,992\n" in ran.stderr


def test_a_service_that_decodes_nothing_is_refused(run: Run, chat: Path) -> None:
    ran = run("-f", chat, "--rate", 1, "--input-tokens", 1155, "--output-tokens", 1, "--length-scv", 0)
    assert ran.exit_code == 2
    assert ran.stderr == (
        "Error: 1 output tokens on prompts of 1,155: there is nothing to decode beside the prompts\n"
        "Fix: plan it as a request/response service (engine.serviceTime), or for longer answers\n"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "no load: write --rate 20 (requests per second), or --trace FILE"),
        (AZURE, "no load: write --rate 20 (requests per second), or --trace FILE"),
        (
            ("--rate", 1),
            "--input-tokens and --output-tokens missing: write the mean lengths, for example "
            "--input-tokens 1155 --output-tokens 211, or --trace FILE",
        ),
        (
            ("--rate", 1, "--input-tokens", 5),
            "--output-tokens missing: write the mean lengths, for example --input-tokens 1155 "
            "--output-tokens 211, or --trace FILE",
        ),
        (
            ("--trace", __file__, "--rate", 1, "--length-scv", 2),
            "--trace has arrivals and lengths in it: leave out --rate, --length-scv",
        ),
        (
            ("--trace", __file__, "--arrivals", "constant"),
            "--trace has arrivals and lengths in it: leave out --arrivals",
        ),
        (("--rate", 0, *AZURE), "Invalid value for '--rate': 0.0 is not in the range x>0."),
        (("--rate", "nan", *AZURE), "Invalid value for '--rate': 'nan' is not a finite number"),
        (("--rate", "inf", *AZURE), "Invalid value for '--rate': 'inf' is not a finite number"),
        (("--rate", "fast", *AZURE), "Invalid value for '--rate': 'fast' is not a valid float range."),
        (
            ("--rate", 1, "--input-tokens", 0, "--output-tokens", 1),
            "Invalid value for '--input-tokens': 0.0 is not in the range x>=1.",
        ),
        (
            ("--rate", 1, *AZURE, "--length-scv", -1),
            "Invalid value for '--length-scv': -1.0 is not in the range 0<=x<=100.",
        ),
        (
            ("--rate", 1, *AZURE, "--length-scv", 101),
            "Invalid value for '--length-scv': 101.0 is not in the range 0<=x<=100.",
        ),
        (
            ("--rate", 1, *AZURE, "--replicas", 0),
            "Invalid value for '--replicas': 0 is not in the range 1<=x<=10000.",
        ),
        (
            ("--rate", 1, *AZURE, "--balancer", "luck"),
            "Invalid value for '--balancer': 'luck' is not one of 'random', 'round-robin', 'p2c', "
            "'least-requests'.",
        ),
    ],
)
def test_options_that_make_no_load_are_refused(
    run: Run, chat: Path, options: tuple[object, ...], message: str
) -> None:
    ran = run("-f", chat, *options)
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert ran.stderr.endswith(f"Error: {message}\n")


def test_tokens_of_a_request_service_are_refused(run: Run, service: Service) -> None:
    ran = run("-f", service("classifier"), "--rate", 1, "--input-tokens", 5)
    assert ran.exit_code == 2
    assert ran.stderr.endswith(
        "Error: a request/response service (serviceTime) has no tokens: leave out --input-tokens\n"
    )


def test_a_missing_file_is_named(run: Run) -> None:
    ran = run("-f", "nowhere.yaml", *LOAD)
    assert ran.exit_code == 2
    assert ran.stderr.endswith(
        "Error: Invalid value for '-f' / '--file': File 'nowhere.yaml' does not exist.\n"
    )


@pytest.mark.parametrize("output", ["json", "table"])
def test_an_objective_out_of_reach_exits_3_with_the_best_there_is(
    run: Run, service: Service, output: str
) -> None:
    ran = run("-f", service(slo={"ttft": {"p95": "2s"}, "tpot": {"p95": "5ms"}}), *LOAD, "-o", output)
    assert (ran.exit_code, ran.stdout) == (3, "")
    # The step law alone is t0 + tw + what one sequence adds: 7.1 ms.
    assert ran.stderr.startswith(
        "Error: no replica count keeps tpot.p95: p95 TPOT <= 5 ms is asked, the best is 7."
    )
    assert ran.stderr.endswith("ms, or plan for a faster engine or shorter requests\n")


def test_the_objective_that_was_suggested_can_be_planned(run: Run, service: Service) -> None:
    refused = run("-f", service(slo={"tpot": {"p95": "5ms"}}), *LOAD)
    suggested = refused.stderr.partition("state at least ")[2].partition(",")[0]
    assert run("-f", service(slo={"tpot": {"p95": suggested}}), *LOAD, "-o", "json").exit_code == 0


def test_a_rate_beyond_all_counts_exits_3(run: Run, chat: Path) -> None:
    ran = run("-f", chat, "--rate", 1e6, *AZURE, "-o", "json")
    assert (ran.exit_code, ran.stdout) == (3, "")
    assert ran.stderr.startswith(
        "Error: no count up to 10,000 replicas carries 1000000 req/s (saturation): one replica saturates at "
    )
