"""A Prometheus API over a fleet that exists only as numbers: for the scale benchmark.

It recognises a query by the metrics in it and answers with one series per service, as `--identity
service` asks for. Everything is steady unless a service's load is changed.
"""

from __future__ import annotations

import re

import orjson
from aiohttp import web

LENGTH_BOUNDS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000)
INPUT_TOKENS, OUTPUT_TOKENS = 1155.0, 211.0


class FakePrometheus:
    """Serves ``/api/v1/query``; `rates` are requests per second by service name."""

    def __init__(self, namespace: str, services: list[str], rate: float, pods: int) -> None:
        self.namespace, self.services, self.pods = namespace, services, pods
        self.rates = dict.fromkeys(services, rate)
        self.queries = 0

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
            {"metric": self._labels(name), "values": [[at, str(rate)] for at in times]}
            for name, rate in self.rates.items()
        ]
        return _answer({"resultType": "matrix", "result": series})

    async def _query(self, request: web.Request) -> web.Response:
        form = await request.post()
        self.queries += 1
        at = float(str(form["time"]))
        return _answer({"resultType": "vector", "result": self._vector(str(form["query"]), at)})

    def _labels(self, service: str, **more: str) -> dict[str, str]:
        return {"namespace": self.namespace, "service": service, **more}

    def _vector(self, query: str, at: float) -> list[dict[str, object]]:
        rates = self.rates
        if "request_prompt_tokens" in query or "request_generation_tokens" in query:
            mean = INPUT_TOKENS if "prompt" in query else OUTPUT_TOKENS
            return self._lengths(query, mean, at)
        if "time() - timestamp" in query:
            parts = {"running": 8.0, "age": 5.0, "pods": float(self.pods)}
            scraped_before = {"metric": {"part": "before"}, "value": [at, "5"]}
            return [scraped_before] + [
                {"metric": self._labels(name, part=part), "value": [at, str(value)]}
                for part, value in parts.items()
                for name in rates
            ]
        if "histogram_quantile" in query:
            value = "0.21" if "first_token" in query else "0.021"
            return [{"metric": self._labels(name, part="0.95"), "value": [at, value]} for name in rates]
        factor = {
            "deriv": 0.0,
            "num_requests_waiting": 0.0,
            "time_to_first_token_seconds_count": 1.0,
            "prompt_tokens_total": INPUT_TOKENS,
            "generation_tokens_total": OUTPUT_TOKENS,
        }
        for mark, times in factor.items():
            if mark in query:
                return [
                    {"metric": self._labels(name), "value": [at, str(rate * times)]}
                    for name, rate in rates.items()
                ]
        if "time_per_output_token" in query:
            return [{"metric": self._labels(name), "value": [at, "0.0125"]} for name in rates]
        raise web.HTTPBadRequest(text=f"the fake does not know {query}")

    def _lengths(self, query: str, mean: float, at: float) -> list[dict[str, object]]:
        """Answer only the services that the query's matcher names, as a real server would."""
        matcher = re.search(r'service=~"([^"]*)"', query)
        wanted = matcher.group(1).replace("\\", "").split("|") if matcher else list(self.rates)
        result: list[dict[str, object]] = []
        for name in wanted:
            rate = self.rates.get(name)
            if rate is None:
                continue
            for bound in LENGTH_BOUNDS:
                share = 1.0 - 2.718281828 ** (-bound / mean)
                labels = self._labels(name, le=f"{float(bound)}")
                result.append({"metric": labels, "value": [at, str(rate * share)]})
            result.append({"metric": self._labels(name, le="+Inf"), "value": [at, str(rate)]})
            result.append({"metric": self._labels(name, le="sum"), "value": [at, str(rate * mean)]})
        return result


def _answer(data: dict[str, object]) -> web.Response:
    body = orjson.dumps({"status": "success", "data": data})
    return web.Response(body=body, content_type="application/json")
