import csv
import pickle
from importlib import resources

import pytest

from penstock.model.profiles import UnknownProfile, inline_profile, profile_named, shipped_profiles
from penstock.model.spec import StepLawFields

TEXT = resources.files("penstock").joinpath("profiles", "engines.csv").read_text(encoding="utf-8")
CALIBRATED = ("Meta-Llama-3.1-8B", "h100_sxm", "bf16")  # the CAL row has that name
ROWS = list(csv.DictReader(TEXT.splitlines()))


@pytest.mark.parametrize(
    ("name", "t0_ms", "source", "gpus"),
    [
        ("llama-3.1-8b-h100", 5.298, "CAL", 1),  # there is an AIC row of that name: CAL comes first
        ("llama-3.1-8b-h100-fp8", 4.121, "AIC", 1),
        ("llama-3.1-8b-l40s", 13.394, "AIC", 1),
        ("llama-3.1-70b-h100-x4", 7.968, "AIC", 4),
        ("llama-3.1-70b-h100-x2-fp8", 11.636, "AIC", 2),
        ("llama-3.1-405b-h200-x8-fp8", 18.437, "AIC", 8),
        ("qwen3-32b-h100-x2", 6.702, "AIC", 2),
        ("qwen3-235b-a22b-h200-x4-fp8", 14.781, "AIC", 4),  # fp8 is in the model's name too: said once
        ("gpt-oss-120b-h100-x2", 2.202, "AIC", 2),  # mxfp4 is its only form
    ],
)
def test_a_profile_is_found_by_model_gpu_count_and_precision(
    name: str, t0_ms: float, source: str, gpus: int
) -> None:
    profile = profile_named(name)
    assert profile.name == name
    assert profile.step_law.base_seconds == pytest.approx(t0_ms * 1e-3)
    assert profile.source == source
    assert profile.gpus == gpus


def test_the_reference_row_in_seconds() -> None:
    profile = profile_named("llama-3.1-8b-h100")
    law = profile.step_law
    assert law.weights_seconds == pytest.approx(1.79e-3)
    assert law.per_token_seconds == pytest.approx(2.109e-5)
    assert law.per_token_pair_seconds == pytest.approx(1.15e-9)
    assert law.per_kv_token_seconds == pytest.approx(4.85e-8)
    assert law.per_sequence_seconds == pytest.approx(7.08e-6)
    assert profile.frontend_seconds == pytest.approx(0.0103)
    assert profile.kv_capacity_tokens == 432_992
    assert (profile.max_sequences, profile.step_token_budget) == (256, 8192)
    assert (profile.measured_points, profile.measured_error_percent) == (122, 4.6)


def test_every_row_with_a_whole_law_is_shipped() -> None:
    usable = [row for row in ROWS if row["source"] in ("CAL", "AIC")]
    assert len(usable) == 35
    assert len(shipped_profiles()) == 34  # CAL stands for the AIC row of the same name


def test_rows_that_lack_a_part_of_the_law_are_not_profiles() -> None:
    """Alpha and beta of a batch are not a step law, and no KV capacity means no concurrency limit."""
    other = {row["source"] for row in ROWS} - {"CAL", "AIC"}
    assert other == {"INFERNO", "WVA-DOC", "WVA-FIT", "LLMD-SIM"}
    for row in ROWS:
        if row["source"] in other:
            assert not row["kv_capacity_tokens"]


def test_kernel_timings_get_the_measured_front_end_time() -> None:
    """AIC rows have no HTTP and no tokeniser in them: real TTFT of one request is 10 ms longer."""
    assert profile_named("qwen3-8b-h100").frontend_seconds == pytest.approx(0.0103)


@pytest.mark.parametrize("name", list(shipped_profiles()))
def test_every_profile_gives_plausible_steps(name: str) -> None:
    profile = profile_named(name)
    alone = float(profile.step_law.step_seconds(0.0, 1.0, 0.0, 1024.0))
    full = float(profile.step_law.step_seconds(0.0, 256.0, 0.0, 256 * 1024.0))
    prefill = float(profile.step_law.step_seconds(1024.0, 0.0, 1024**2 / 2, 0.0))
    assert 1e-3 < alone < full < 0.5
    assert alone < prefill < 1.0


@pytest.mark.parametrize(
    ("row", "column", "work"),
    [
        (row, column, work)
        for row in ROWS
        if row["source"] == "AIC" and (row["model"], row["gpu"], row["weights"]) != CALIBRATED
        for column, work in (
            ("itl_b64_ms", (0.0, 64.0, 0.0, 64 * 1024.0)),
            ("prefill1024_ms", (1024.0, 0.0, 1024**2 / 2, 0.0)),
        )
    ],
)
def test_the_law_reproduces_the_times_its_row_was_fitted_to(
    row: dict[str, str], column: str, work: tuple[float, float, float, float]
) -> None:
    name = next(
        name
        for name, profile in shipped_profiles().items()
        if (profile.model, profile.gpu, str(profile.gpus), profile.precision)
        == (row["model"], row["gpu"], row["gpus"], row["weights"])
    )
    profile = profile_named(name)
    seconds = float(profile.step_law.step_seconds(*work))
    # The table's fit_p95_err_pct is up to 29 % for the loosest rows (B200 fp8).
    assert 1e3 * seconds == pytest.approx(float(row[column]), rel=0.30)


def test_an_unknown_name_is_answered_with_the_three_closest() -> None:
    with pytest.raises(UnknownProfile) as raised:
        profile_named("llama-8b-h100")
    assert str(raised.value) == (
        "no engine profile is named 'llama-8b-h100'; "
        "the closest are llama-3.1-8b-h100, llama-3.1-8b-h200, llama-3.1-8b-a100"
    )
    assert pickle.loads(pickle.dumps(raised.value)).closest == raised.value.closest


def test_an_inline_profile_is_the_named_one_in_milliseconds() -> None:
    fields = StepLawFields(
        t0_milliseconds=5.298,
        tw_milliseconds=1.79,
        g_milliseconds_per_token=0.02109,
        a_milliseconds_per_token_pair=1.15e-6,
        e_milliseconds_per_kv_token=4.85e-5,
        h_milliseconds_per_sequence=0.00708,
        kv_capacity_tokens=432_992,
    )
    inline, named = inline_profile(fields), profile_named("llama-3.1-8b-h100")
    work = (300.0, 40.0, 45_000.0, 50_000.0)
    assert inline.step_law.step_seconds(*work) == pytest.approx(float(named.step_law.step_seconds(*work)))
    assert inline.frontend_seconds == named.frontend_seconds
    assert inline.step_token_budget == 8192
