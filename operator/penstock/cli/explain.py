"""``penstock explain``: why the live decision is what it is, and what one replica more or less would give."""

from __future__ import annotations

import asyncio
import sys
import time
from dataclasses import dataclass

import click
import orjson
from rich.console import Console

from penstock.cli.explain_json import explained_json
from penstock.cli.explain_output import print_explained
from penstock.cli.explain_read import ExplainFault, Lengths, Live, Measured, read_live, read_measured
from penstock.cli.explain_what_if import what_if
from penstock.cli.positive_number import PositiveNumber
from penstock.cli.prometheus_matcher import prometheus_matcher
from penstock.kube.aio_client import connect
from penstock.kube.answers import CallLimits
from penstock.kube.api import KubeError
from penstock.metrics_source.adapters import prometheus_source
from penstock.metrics_source.connection import Connection
from penstock.metrics_source.identity import SeriesSettings
from penstock.model.spec import ServiceKey
from penstock.policy.lengths import LengthMoments

INTERRUPTED = 130
# A person waits for the answer: the operator's own limits are for a loop that comes again.
LIMITS = CallLimits()


@dataclass(frozen=True, slots=True)
class Prometheus:
    """Where to read what status does not carry; no `url`: nowhere."""

    url: str
    bearer_token_file: str
    settings: SeriesSettings


@click.command(
    epilog="""\b
Examples:
  penstock explain prod/chat
  penstock explain prod/chat --prometheus-url http://127.0.0.1:9090
  penstock explain prod/chat --rate 30 --input-tokens 1155 --output-tokens 211
  penstock explain prod/chat -o json | jq .decision.message

\b
Reads the resource only (get on inferenceservices): rate, lengths and engine are those of its status, which
moves at most once a minute. With --prometheus-url also the target's scale and pods, and Prometheus; the
rate stays that of status where engines do not see what is offered: behind gateways, beside a canary.
JSON is one object: decision, replicas, load, objectives, learned, admission, fallback, canary {..,
rows [{.., verdict}]}, conditions as in status; whatIf {ratePerSecond, stepFactors, followed (by the
operator), notMeasured (why Prometheus is not the source), outcomes [{replicas, utilization,
seconds {objective}, shedFraction, broken}]}, or whatIfMissing with the reason.

\b
Exit status: 0 explained; 1 no such resource, no cluster, not allowed; 2 wrong usage; 130 Ctrl-C."""
)
@click.argument("service", metavar="NAMESPACE/NAME")
@click.option(
    "--rate", type=PositiveNumber(0, min_open=True), help="Requests per second instead of the measured."
)
@click.option("--input-tokens", type=PositiveNumber(1), help="Mean prompt length instead of the learned.")
@click.option("--output-tokens", type=PositiveNumber(1), help="Mean answer length instead of the learned.")
@click.option(
    "--length-scv",
    type=PositiveNumber(0, 100),
    help="Squared coefficient of variation of both lengths, variance / mean^2.  [default: 1]",
)
@click.option(
    "--prometheus-url",
    default="",
    envvar="PENSTOCK_PROMETHEUS_URL",
    help="Take rate and lengths of requests from there, as of now.",
)
@prometheus_matcher
@click.option("--prometheus-bearer-token-file", default="", help="File with a bearer token for it.")
@click.option("--namespace-label", default="namespace", show_default=True, help="Label of series: namespace.")
@click.option("--pod-label", default="pod", show_default=True, help="Label of series: pod.")
@click.option(
    "--kubeconfig",
    default="",
    envvar="KUBECONFIG",
    help="Kubeconfig file. Default: in-cluster, else ~/.kube/config.",
)
@click.option(
    "-o",
    "--output",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="For people or programs.",
)
def explain(
    *,
    service: str,
    rate: float | None,
    input_tokens: float | None,
    output_tokens: float | None,
    length_scv: float | None,
    prometheus_url: str,
    matchers: tuple[tuple[str, str], ...],
    prometheus_bearer_token_file: str,
    namespace_label: str,
    pod_label: str,
    kubeconfig: str,
    output: str,
) -> None:
    """Explain a live decision.

    Why an InferenceService has the replicas, limits and canary it has, in its own numbers; and what
    one replica more or less would give.
    """
    key = _key(service)
    lengths = _lengths(input_tokens, output_tokens, length_scv)
    try:
        settings = SeriesSettings(
            namespace_label=namespace_label, pod_label=pod_label, matchers=dict(matchers)
        )
        prometheus = Prometheus(prometheus_url, prometheus_bearer_token_file, settings)
        with Console(stderr=True).status("asking the cluster") as progress:  # shown on a terminal only
            live, measured = asyncio.run(_read(key, kubeconfig, prometheus))
            progress.update("solving the model")
            answer = what_if(live, rate=rate, lengths=lengths, measured=measured)
    except KeyboardInterrupt:
        # Nothing runs beside this process: there is nothing to end but ourselves.
        click.echo("interrupted", err=True)
        raise SystemExit(INTERRUPTED) from None
    except ValueError as error:  # a label or an address that cannot be one
        raise click.UsageError(str(error)) from None
    if output == "json":
        options = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
        sys.stdout.buffer.write(orjson.dumps(explained_json(live, answer), option=options))
        sys.stdout.flush()
    else:
        print_explained(live, answer, Console(), time.time())


async def _read(key: ServiceKey, kubeconfig: str, prometheus: Prometheus) -> tuple[Live, Measured | None]:
    """Return the resource, and what Prometheus knows where it is to be asked."""
    try:
        kube = await connect(kubeconfig=kubeconfig, limits=LIMITS)
    except KubeError as error:
        raise ExplainFault(error.message, "give --kubeconfig with a file that kubectl can use") from None
    try:
        live = await read_live(kube, key)
        if not prometheus.url:
            return live, None
        connection = Connection(prometheus.url, bearer_token_file=prometheus.bearer_token_file)
        source = prometheus_source("aiohttp", connection)
        try:
            return live, await read_measured(kube, source, live, prometheus.settings)
        finally:
            await source.close()
    finally:
        await kube.close()


def _key(service: str) -> ServiceKey:
    namespace, mark, name = service.partition("/")
    if not mark or not namespace or not name or "/" in name:
        raise click.BadParameter(
            f"{service!r}: write NAMESPACE/NAME, for example prod/chat", param_hint="NAMESPACE/NAME"
        )
    return ServiceKey(namespace, name)


def _lengths(prompt: float | None, answer: float | None, scv: float | None) -> Lengths | None:
    if prompt is None and answer is None:
        if scv is not None:
            raise click.UsageError("--length-scv is about --input-tokens and --output-tokens: give them too")
        return None
    if prompt is None or answer is None:
        missing = "--input-tokens" if prompt is None else "--output-tokens"
        raise click.UsageError(f"{missing} missing: both mean lengths are needed")
    spread = 1.0 if scv is None else scv
    return Lengths(LengthMoments(prompt, spread), LengthMoments(answer, spread), "as given")
