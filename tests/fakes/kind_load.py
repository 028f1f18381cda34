"""Load on a service of a kind cluster: a Job that sends it, and what it measured."""

from __future__ import annotations

import json
from typing import Any

from fakes.kind_cluster import Cluster, load

GATEWAY = "http://chat-penstock"


def loaded(
    namespace: str, rates: str, *, url: str = GATEWAY, tokens: int = 60, name: str = "load"
) -> dict[str, Any]:
    """Return a load Job on `url` with answers of `tokens` tokens."""
    body = load(namespace, rates)
    body["metadata"]["name"] = name
    args = body["spec"]["template"]["spec"]["containers"][0]["args"]
    changed = ("--url", "--output-tokens")
    args[:] = [each for each in args if not each.startswith(changed)]
    # What counts here is how requests end; late sending belongs to the machine, which others use as well.
    args += [f"--url={url}", f"--output-tokens={tokens}", "--max-send-lag=2s", "--max-engine-lag=10"]
    return body


def stop(cluster: Cluster, namespace: str, *, name: str = "load") -> None:
    """Have a load send no more: what a test waits for has come. It waits for the answers and reports."""
    cluster.kubectl("exec", f"job/{name}", "-n", namespace, "--", "sh", "-c", "kill -TERM 1")


def report(cluster: Cluster, namespace: str, *, name: str = "load", seconds: float) -> dict[str, Any]:
    """Wait for the load to end and return what it measured."""

    def ended() -> bool:
        status = cluster.get("job", name, namespace)["status"]
        return bool(status.get("succeeded") or status.get("failed"))

    def told() -> bool:
        nonlocal text
        text = cluster.kubectl("logs", f"job/{name}", "-n", namespace, check=False).stdout
        return "{" in text or "Not reported" in text

    text = ""
    cluster.wait("the load ends", ended, namespace=namespace, seconds=seconds)
    # A busy kubelet gives the log of a container that has just ended up to some earlier line.
    cluster.wait("the load's report is in its log", told, namespace=namespace, seconds=15)
    assert "{" in text, f"the load was not reported: {text}"
    return dict(json.loads(text[text.index("{") :]))
