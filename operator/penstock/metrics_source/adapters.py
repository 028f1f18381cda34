"""The two adapters behind one door."""

from __future__ import annotations

from typing import Literal

from penstock.metrics_source.base import MetricsSource
from penstock.metrics_source.connection import Connection

Client = Literal["aiohttp", "prometheus-api-client"]


def prometheus_source(client: Client, connection: Connection) -> MetricsSource:
    """Return the adapter of that name; the second one's package is loaded only when it is asked for."""
    if client == "prometheus-api-client":
        from penstock.metrics_source.prometheus_api_client import PrometheusApiClient

        return PrometheusApiClient(connection)
    from penstock.metrics_source.prometheus_http import PrometheusHttp

    return PrometheusHttp(connection)
