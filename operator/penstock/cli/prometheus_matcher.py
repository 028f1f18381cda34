"""``--prometheus-matcher NAME=VALUE`` of the commands that ask Prometheus."""

from __future__ import annotations

import click

from penstock.metrics_source.identity import SeriesSettings


def _matchers(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Split ``NAME=VALUE``; each name once, as all matchers of a selector are required."""
    found: dict[str, str] = {}
    for text in values:
        name, _mark, value = text.partition("=")
        if not name or not value:
            raise click.BadParameter(f"{text!r}: write it as NAME=VALUE, for example cluster=prod-1")
        if found.setdefault(name, value) != value:
            raise click.BadParameter(f"{name!r} cannot be both {found[name]!r} and {value!r}: give one")
    try:
        SeriesSettings(matchers=found)
    except ValueError as error:  # what cannot be a label's name
        raise click.BadParameter(str(error)) from None
    return tuple(found.items())


prometheus_matcher = click.option(
    "--prometheus-matcher",
    "matchers",
    metavar="NAME=VALUE",
    multiple=True,
    callback=_matchers,
    help="Read only series with this label, may be repeated: cluster=prod-1 where one Thanos holds several "
    "clusters, job=vllm where pods are scraped twice.",
)
