"""A Prometheus API over a fleet that exists only as numbers: for the scale benchmark.

It recognises a query by the metrics in it and answers with one series per service, as `--identity
service` asks for. Everything is steady unless a service's load is changed. Answers are joined from
prepared bytes, 10 ms each at 10,000 services: a server of its own would not take the operator's cores.
"""

from __future__ import annotations

import math
import re

import orjson
from aiohttp import web

LENGTH_BOUNDS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000)
INPUT_TOKENS, OUTPUT_TOKENS = 1155.0, 211.0
# Value of a sample by a mark in the query: requests per second times this.
PER_REQUEST = {
    "deriv": 0.0,
    "num_requests_waiting": 0.0,
    "time_to_first_token_seconds_count": 1.0,
    "prompt_tokens_total": INPUT_TOKENS,
    "generation_tokens_total": OUTPUT_TOKENS,
}
TTFT_SECONDS = 0.06
LATENCY_BOUNDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)  # seconds


class FakePrometheus:
    """Serves ``/api/v1/query``; `rates` are requests per second by service name."""

    def __init__(self, namespace: str, services: list[str], rate: float, pods: int) -> None:
        self.namespace, self.pods = namespace, pods
        self.rates = dict.fromkeys(services, rate)
        self.queries = 0
        self._heads: dict[str, list[bytes]] = {}

    def app(self) -> web.Application:
        """Return the application."""
        app = web.Application(client_max_size=16 * 1024 * 1024)
        app.router.add_post("/api/v1/query", self._query)
        app.router.add_post("/api/v1/query_range", self._range)
        return app

    async def _range(self, request: web.Request) -> web.Response:
        form = await request.post()
        start, end, step = (float(str(form[name])) for name in ("start", "end", "step"))
        times = [start + index * step for index in range(int((end - start) / step) + 1)]
        series = [
            {"metric": self._labels(name), "values": [[at, str(self.rates[name])] for at in times]}
            for name in self._asked(str(form["query"]))
        ]
        data = {"resultType": "matrix", "result": series}
        body = orjson.dumps({"status": "success", "data": data})
        return web.Response(body=body, content_type="application/json")

    async def _query(self, request: web.Request) -> web.Response:
        form = await request.post()
        self.queries += "increase(" not in str(form["query"])  # error budgets are counted beside the ticks
        result = b",".join(self._vector(str(form["query"])))
        body = b'{"status":"success","data":{"resultType":"vector","result":[' + result + b"]}}"
        return web.Response(body=body, content_type="application/json")

    def _labels(self, service: str, **more: str) -> dict[str, str]:
        return {"namespace": self.namespace, "service": service, **more}

    def _series(self, values: list[bytes], **more: str) -> list[bytes]:
        """Return the samples of all services, in their order."""
        key = str(more)
        if key not in self._heads:
            self._heads[key] = [
                b'{"metric":' + orjson.dumps(self._labels(name, **more)) + b',"value":[0,"'
                for name in self.rates
            ]
        return [head + value + b'"]}' for head, value in zip(self._heads[key], values, strict=True)]

    def _same(self, value: float, **more: str) -> list[bytes]:
        return self._series([b"%.9g" % value] * len(self.rates), **more)

    def _vector(self, query: str) -> list[bytes]:
        if "request_prompt_tokens" in query or "request_generation_tokens" in query:
            return self._lengths(query, INPUT_TOKENS if "prompt" in query else OUTPUT_TOKENS)
        if "increase(" in query:
            return self._buckets(query, TTFT_SECONDS, LATENCY_BOUNDS)
        if "time() - timestamp" in query:
            scraped_before = b'{"metric":{"part":"before"},"value":[0,"5"]}'
            parts = {"running": 8.0, "age": 5.0, "pods": float(self.pods)}
            return [
                scraped_before,
                *(each for part, value in parts.items() for each in self._same(value, part=part)),
            ]
        if "histogram_quantile" in query:
            return self._same(0.21 if "first_token" in query else 0.021, part="0.95")
        if "time_per_output_token" in query:
            first = [b"%.9g" % (rate * TTFT_SECONDS) for rate in self.rates.values()]
            return self._same(0.0125, part="tpot") + self._series(first, part="first_tokens")
        for mark, times in PER_REQUEST.items():
            if mark in query:
                return self._series([b"%.9g" % (rate * times) for rate in self.rates.values()])
        raise web.HTTPBadRequest(text=f"the fake does not know {query}")

    def _lengths(self, query: str, mean: float) -> list[bytes]:
        """Answer with the buckets and the sum of exponential lengths."""
        return self._buckets(query, mean, LENGTH_BOUNDS, sums=mean)

    def _buckets(
        self, query: str, mean: float, bounds: tuple[float, ...], sums: float | None = None
    ) -> list[bytes]:
        samples = []
        for name in self._asked(query):
            rate = self.rates[name]
            values = {f"{float(bound)}": rate * -math.expm1(-bound / mean) for bound in bounds}
            values["+Inf"] = rate
            if sums is not None:
                values["sum"] = rate * sums
            samples += [
                orjson.dumps({"metric": self._labels(name, le=le), "value": [0, str(value)]})
                for le, value in values.items()
            ]
        return samples

    def _asked(self, query: str) -> list[str]:
        """Return the services that the query's matcher names, as a real server would; without one, all."""
        matcher = re.search(r'service=~"([^"]*)"', query)
        if matcher is None:
            return list(self.rates)
        return [name for name in matcher.group(1).replace("\\", "").split("|") if name in self.rates]
