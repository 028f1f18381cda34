"""What the proxy costs: latency beside a direct request, and CPU for each token that passes.

Direct and proxied requests alternate on warm connections, so that both see the same machine. CPU is user
and system time of all threads of the Envoy process, from /proc, while streams run at full rate.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import numpy as np

from bench.dataplane_report import ENVOY, Figure, Goal
from bench.gateway import Upstream, stream_path
from bench.raw_http import KeepAlive, many, request_bytes

SECTION = "cost"
STREAMS, GAP_MILLISECONDS = 300, 50.0  # 6,000 tokens/s
LONGEST_LATE_RATIO = 0.1  # of the planned duration: beyond, the machine did not keep up


def added_latency(upstream: Upstream, gateway_port: int, pairs: int) -> list[Figure]:
    """Return how much later the answer to a small request is complete."""
    request = request_bytes(stream_path(1, 0))
    direct, proxied = KeepAlive(upstream.port), KeepAlive(gateway_port)
    seconds: dict[str, list[float]] = {"direct": [], "proxied": []}
    for number in range(pairs + 50):
        for name, connection in (("direct", direct), ("proxied", proxied)):
            reply = connection.ask(request)
            if reply.status != 200:
                raise RuntimeError(f"{name} request was answered {reply.status}")
            if number >= 50:  # warm
                seconds[name].append(reply.seconds)
    direct.close()
    proxied.close()
    milliseconds = {name: np.array(each) * 1e3 for name, each in seconds.items()}
    added = {
        p: float(np.quantile(milliseconds["proxied"], p) - np.quantile(milliseconds["direct"], p))
        for p in (0.5, 0.99)
    }
    direct_p50 = float(np.median(milliseconds["direct"]))
    return [
        Figure(SECTION, "added latency p50", added[0.5], "ms", ENVOY, (Goal.BELOW, 0.4)),
        Figure(SECTION, "added latency p99", added[0.99], "ms", ENVOY),
        Figure(SECTION, "a direct request, p50", direct_p50, "ms", "no proxy"),
    ]


async def cpu_per_token(gateway_port: int, pid: int, seconds: float) -> list[Figure]:
    """Return CPU of the proxy a token over `STREAMS` concurrent streams."""
    tokens = round(seconds * 1e3 / GAP_MILLISECONDS)
    request = request_bytes(stream_path(tokens, GAP_MILLISECONDS))
    loop = asyncio.get_running_loop()
    began, before = loop.time(), cpu_seconds(pid)
    async with many([request] * STREAMS, gateway_port) as streams, asyncio.timeout(seconds * 3 + 10):
        await asyncio.gather(*(stream.done.wait() for stream in streams))
    spent, took = cpu_seconds(pid) - before, loop.time() - began
    events = sum(stream.events for stream in streams)
    void = ""
    if events != STREAMS * tokens:
        void = f"{events} of {STREAMS * tokens} tokens came"
    elif took > seconds * (1 + LONGEST_LATE_RATIO):
        void = f"took {took:.1f} s instead of {seconds:.1f}: the machine was the bottleneck"
    return [
        Figure(SECTION, "CPU per streamed token", spent / events * 1e6, "us", ENVOY, (Goal.BELOW, 40), void),
        Figure(SECTION, f"tokens through one proxy, {STREAMS} streams", events / took, "/s", ENVOY),
    ]


def cpu_seconds(pid: int) -> float:
    """Return user and system time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
