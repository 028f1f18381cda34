"""What ``penstock run`` is told of Prometheus, followed to the connection and the queries it is meant for."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import pytest
from click import Option
from click.testing import CliRunner

from fakes.scripted_source import ScriptedSource
from penstock.cli.main import main
from penstock.cli.run import run
from penstock.controller.app import Operator
from penstock.controller.settings import OperatorSettings
from penstock.kube.api import NotFound
from penstock.metrics_source.adapters import prometheus_source
from penstock.metrics_source.arms import ARM_LIMITS
from penstock.metrics_source.ask import CollectLimits
from penstock.metrics_source.base import DEFAULT_LIMITS
from penstock.metrics_source.connection import Connection
from penstock.metrics_source.history import TIMEOUT_SECONDS as HISTORY_SECONDS
from penstock.metrics_source.identity import IdentifyBy, SeriesSettings
from penstock.metrics_source.missed_requests import TIMEOUT_SECONDS as BUDGET_SECONDS
from penstock.metrics_source.prometheus_api_client import PrometheusApiClient
from penstock.metrics_source.prometheus_http import PrometheusHttp

URL = "http://127.0.0.1:9/prometheus"
TIMEOUT = "prometheus_timeout"


class EmptyCluster:
    async def resource_of(self, *_: str) -> None:
        raise NotFound("no such type", status=404)


@dataclass(frozen=True)
class Used:
    """What an operator asks Prometheus with."""

    client: str
    connection: Connection
    series: SeriesSettings
    limits: CollectLimits


def settings_of(monkeypatch: pytest.MonkeyPatch, *options: str) -> OperatorSettings:
    seen: list[OperatorSettings] = []
    monkeypatch.setattr("penstock.controller.app.run_operator", lambda settings: seen.append(settings) or 0)
    result = CliRunner().invoke(main, ["run", "--prometheus-url", URL, *options])
    assert result.exit_code == 0, result.output
    return seen[0]


async def used(monkeypatch: pytest.MonkeyPatch, *options: str) -> Used:
    """Start with these options as far as nothing is asked yet."""
    asked: list[tuple[str, Connection]] = []

    def noted(client: str, connection: Connection) -> ScriptedSource:
        asked.append((client, connection))
        return ScriptedSource(lambda _: [])

    monkeypatch.setattr("penstock.controller.app.prometheus_source", noted)
    async with AsyncExitStack() as stack:
        operator = Operator(settings_of(monkeypatch, *options), stack)
        await operator._build_loop(EmptyCluster(), has_keda=False)  # type: ignore[arg-type]
        assert operator._loop is not None
        collector = operator._loop._parts.collector
        ((client, connection),) = asked
        return Used(client, connection, collector._settings, collector._limits)


async def test_without_options_the_default_adapter_asks_the_address_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert await used(monkeypatch) == Used(
        "aiohttp", Connection(URL), SeriesSettings(), CollectLimits(query_timeout_seconds=5.0)
    )


@pytest.mark.parametrize(
    ("options", "connection"),
    [
        (
            ("--prometheus-header", "X-Scope-OrgID: team-a", "--prometheus-header", "X-Key: a=b"),
            Connection(URL, headers={"X-Scope-OrgID": "team-a", "X-Key": "a=b"}),
        ),
        (
            ("--prometheus-header", "X-Scope-OrgID=team-a|team-b"),
            Connection(URL, headers={"X-Scope-OrgID": "team-a|team-b"}),
        ),
        (
            ("--prometheus-header", "X-Url=http://a", "--prometheus-header", "X-Query: a=b:c"),
            Connection(URL, headers={"X-Url": "http://a", "X-Query": "a=b:c"}),
        ),
        (
            ("--prometheus-bearer-token-file", "/var/run/token"),
            Connection(URL, bearer_token_file="/var/run/token"),
        ),
        (("--prometheus-ca-file", "/etc/ca.pem"), Connection(URL, ca_file="/etc/ca.pem")),
        (("--prometheus-insecure-skip-verify",), Connection(URL, insecure_skip_verify=True)),
    ],
    ids=["headers", "header with =", "headers with both", "bearer token file", "CA file", "no verification"],
)
async def test_what_lets_us_in_is_the_connections(
    monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], connection: Connection
) -> None:
    assert (await used(monkeypatch, *options)).connection == connection


@pytest.mark.parametrize("client", ["aiohttp", "prometheus-api-client"])
async def test_the_client_that_is_named_is_asked_for(monkeypatch: pytest.MonkeyPatch, client: str) -> None:
    assert (await used(monkeypatch, "--prometheus-client", client)).client == client


@pytest.mark.parametrize(
    ("client", "adapter"), [("aiohttp", PrometheusHttp), ("prometheus-api-client", PrometheusApiClient)]
)
async def test_each_name_of_a_client_is_its_adapter(client: Any, adapter: type) -> None:
    source = prometheus_source(client, Connection(URL))
    assert type(source) is adapter
    await source.close()


@pytest.mark.parametrize("header", ["X-Scope-OrgID", "", ": a", "=http://a", " =a:b"])
def test_a_header_without_name_or_mark_is_refused(header: str) -> None:
    result = CliRunner().invoke(main, ["run", "--prometheus-url", URL, "--prometheus-header", header])
    assert result.exit_code == 2
    assert f"{header!r}: write it as 'X-Scope-OrgID: tenant'" in result.output


def test_the_help_of_the_time_out_names_the_limits_that_others_have() -> None:
    told = next(each.help for each in run.params if isinstance(each, Option) and each.name == TIMEOUT)
    assert told == (
        "Seconds each of a tick's queries for the whole fleet may take. All queries of a tick end within "
        f"{CollectLimits().deadline_seconds:g}, so more changes nothing. Others keep limits of their own: a "
        f"Custom engine's {CollectLimits().custom_timeout_seconds:g}, "
        f"canaries' {ARM_LIMITS.deadline_seconds:g}, requests in flight {DEFAULT_LIMITS.timeout_seconds:g}, "
        f"error budgets' {BUDGET_SECONDS:g}, the "
        f"history after a start {HISTORY_SECONDS:g}."
    )


async def test_the_time_out_of_a_query_bounds_the_queries_of_a_tick(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = (await used(monkeypatch, "--prometheus-timeout", "2.5")).limits
    assert limits == CollectLimits(query_timeout_seconds=2.5)


@pytest.mark.parametrize(
    ("options", "series"),
    [
        (
            ("--scrape-interval", "5", "--rate-window", "40"),
            SeriesSettings(scrape_interval_seconds=5.0, rate_window_seconds=40.0, stale_after_seconds=20.0),
        ),
        (
            ("--namespace-label", "k8s_ns", "--pod-label", "k8s_pod", "--service-label", "app"),
            SeriesSettings(namespace_label="k8s_ns", pod_label="k8s_pod", service_label="app"),
        ),
        (("--identity", "service"), SeriesSettings(identify_by=IdentifyBy.SERVICE)),
    ],
    ids=["scrapes and windows", "labels", "identity"],
)
async def test_what_identifies_and_ages_series_reaches_the_queries(
    monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], series: SeriesSettings
) -> None:
    assert (await used(monkeypatch, *options)).series == series
