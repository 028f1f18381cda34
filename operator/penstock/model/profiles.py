"""The shipped engine profiles, by name: ``<model>-<gpu>[-x<GPUs>][-<precision>]``.

Model and GPU are lower case without vendor prefixes (``Meta-``, ``_sxm``) and without a precision in the
model's name; ``-x<GPUs>`` from two GPUs a replica on; bf16 is not named. Where two rows would have one
name the source decides: CAL (fitted to real serving) before AIC (kernel times). Only rows with the
whole step law and a KV capacity are profiles; profiles/README.md says why for each source.
"""

from __future__ import annotations

import csv
import difflib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from types import MappingProxyType

from penstock.model.spec import StepLawFields
from penstock.queueing.engine_profile import DEFAULT_FRONTEND_SECONDS, EngineProfile
from penstock.queueing.step_law import StepLaw

_MILLI = 1e-3
_SOURCES = ("CAL", "AIC")  # in order of trust; the others lack a part of the law
_MAX_SEQUENCES = 256
_STEP_TOKEN_BUDGET = 8192


class UnknownProfile(ValueError):  # noqa: N818 - named for what it says, like the errors of queueing
    """A profile name that is not shipped; `closest` are up to three that are."""

    def __init__(self, name: str, closest: tuple[str, ...]) -> None:
        self.name = name
        self.closest = closest
        super().__init__(f"no engine profile is named {name!r}; the closest are {', '.join(closest)}")

    def __reduce__(self) -> tuple[type, tuple[str, tuple[str, ...]]]:
        return type(self), (self.name, self.closest)


def profile_named(name: str) -> EngineProfile:
    """Return the shipped profile; raises UnknownProfile with the three closest names."""
    profiles = shipped_profiles()
    if name in profiles:
        return profiles[name]
    raise UnknownProfile(name, tuple(difflib.get_close_matches(name.lower(), profiles, n=3, cutoff=0.0)))


def inline_profile(fields: StepLawFields) -> EngineProfile:
    """Return the profile a resource states itself (milliseconds there, seconds here)."""
    return EngineProfile(
        name="inline",
        step_law=StepLaw(
            base_seconds=fields.t0_milliseconds * _MILLI,
            weights_seconds=fields.tw_milliseconds * _MILLI,
            per_token_seconds=fields.g_milliseconds_per_token * _MILLI,
            per_token_pair_seconds=fields.a_milliseconds_per_token_pair * _MILLI,
            per_kv_token_seconds=fields.e_milliseconds_per_kv_token * _MILLI,
            per_sequence_seconds=fields.h_milliseconds_per_sequence * _MILLI,
            experts_seconds=fields.m_milliseconds * _MILLI,
            experts_tokens=float(fields.n0_tokens) or 1.0,
        ),
        kv_capacity_tokens=fields.kv_capacity_tokens,
        frontend_seconds=fields.frontend_milliseconds * _MILLI,
        step_token_budget=fields.max_batched_tokens,
        gpus=fields.gpus,
        source="inline",
    )


@cache
def shipped_profiles() -> Mapping[str, EngineProfile]:
    """Return every shipped profile by name."""
    text = resources.files("penstock").joinpath("profiles", "engines.csv").read_text(encoding="utf-8")
    rows = [row for row in csv.DictReader(text.splitlines()) if row["source"] in _SOURCES]
    rows.sort(key=lambda row: _SOURCES.index(row["source"]))
    profiles: dict[str, EngineProfile] = {}
    for row in rows:
        profile = _profile(row)
        profiles.setdefault(profile.name, profile)
    return MappingProxyType(dict(sorted(profiles.items())))


def _profile(row: Mapping[str, str]) -> EngineProfile:
    def milliseconds(column: str) -> float:
        return float(row[column]) * _MILLI

    frontend = row["frontend_ms"]
    error = row["median_abs_err_vs_measured_pct"]
    return EngineProfile(
        name=_name(row),
        step_law=StepLaw(
            base_seconds=milliseconds("t0_ms"),
            weights_seconds=milliseconds("tw_ms"),
            per_token_seconds=milliseconds("g_ms_per_tok"),
            per_token_pair_seconds=milliseconds("a_ms_per_tokpair"),
            per_kv_token_seconds=milliseconds("e_ms_per_kvtok"),
            per_sequence_seconds=milliseconds("h_ms_per_seq"),
            experts_seconds=milliseconds("m_ms"),
            experts_tokens=float(row["n0_tok"]) or 1.0,
        ),
        kv_capacity_tokens=float(row["kv_capacity_tokens"]),
        # Kernel times have no HTTP and tokeniser in them: the measured 10.3 ms of the CAL row stand in.
        frontend_seconds=float(frontend) * _MILLI if frontend else DEFAULT_FRONTEND_SECONDS,
        max_sequences=_MAX_SEQUENCES,
        step_token_budget=_STEP_TOKEN_BUDGET,
        gpus=int(row["gpus"]),
        kv_bytes_per_token=float(row["kv_bytes_per_tok"]),
        gpu=row["gpu"],
        model=row["model"],
        precision=row["weights"],
        source=row["source"],
        measured_points=int(float(row["n_measured_tpot"] or 0)),
        measured_error_percent=float(error) if error else None,
    )


def _name(row: Mapping[str, str]) -> str:
    precision = row["weights"]
    model = row["model"].lower().removeprefix("meta-").removesuffix(f"-{precision}")
    parts = [model, row["gpu"].lower().removesuffix("_sxm")]
    if int(row["gpus"]) > 1:
        parts.append(f"x{row['gpus']}")
    # mxfp4 is gpt-oss's only form: like bf16 elsewhere it is what one means without saying so.
    if precision not in ("bf16", "mxfp4"):
        parts.append(precision)
    return "-".join(parts)
