"""Gives a service that runs already to Penstock, as an SRE would: look first, then let it.

Observe computes and shows. With a gateway the clients' URL is swapped while it still lets everything pass;
only then comes Enforce.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from penstock.kube.api import INFERENCE_SERVICES
from penstock.sandbox.demo.cluster import DemoCluster, DemoError
from penstock.sandbox.demo.commentary import Kind, Say
from penstock.sandbox.demo.gateway_process import GatewayProcess
from penstock.sandbox.demo.manifests import inference_service_yaml, inference_services
from penstock.sandbox.demo.scene import MODEL, NAME, NAMESPACE, Scene
from penstock.sandbox.demo.witness import Witness

HISTORY_SECONDS = 6.0  # beyond a rate window: Prometheus needs up to 5 s to find its targets
LOOK_SECONDS = 3.0  # at what Observe says, before Enforce
SERVED_WITHIN_SECONDS = 20.0
# What the operator says while it has nothing to decide from.
_NOT_YET = ("", "Learning", "MetricsMissing")


@dataclass(slots=True)
class Clients:
    """Where clients send: a file of URLs that they follow."""

    file: Path

    def use(self, urls_file: Path) -> None:
        """Send to the engines of a file that changes, as through the workload's own Service."""
        self.file.unlink(missing_ok=True)
        self.file.symlink_to(urls_file)

    def swap(self, url: str) -> None:
        """Send to one URL from now on."""
        partial = self.file.with_suffix(".partial")
        partial.write_text(f"{url}\n")
        partial.replace(self.file)


@dataclass(slots=True)
class HandOver:
    """The steps of it; `run` them once the load runs."""

    cluster: DemoCluster
    witness: Witness
    clients: Clients
    gateway: GatewayProcess | None
    scene: Scene
    say: Say
    show_yaml: Callable[[str], None]

    async def run(self) -> None:
        """Apply the objectives; where the scene begins with Observe, go on to Enforce."""
        scene = self.scene
        await asyncio.sleep(scene.rate_window_seconds + HISTORY_SECONDS)
        self.say(
            Kind.APPLY,
            f"the objective: 95 % of requests get their first token within {scene.ttft_p95_seconds:g} s. "
            "This YAML is the whole interface:",
        )
        self.show_yaml(inference_service_yaml(scene))
        for body in inference_services(scene):
            await self.cluster.apply(INFERENCE_SERVICES, body)
        if scene.first_mode != "Observe":
            return
        await self.witness.until(
            lambda: self.witness.reason not in _NOT_YET,
            scene.phases[0].seconds,
            "the operator reached no decision while it observed",
        )
        if self.gateway is not None:
            await self._swap_the_url(self.gateway)
        await asyncio.sleep(LOOK_SECONDS)
        self.say(
            Kind.NOTE,
            "mode Observe: Penstock has said what it would do and left the Deployment at "
            f"{self.witness.target}. That looks right, so let it:",
        )
        self.say(Kind.APPLY, f'kubectl patch psvc {NAME} --type merge -p \'{{"spec":{{"mode":"Enforce"}}}}\'')
        path = INFERENCE_SERVICES.path(NAMESPACE, NAME)
        await self.cluster.rest.merge(path, {"spec": {"mode": "Enforce"}})

    async def _swap_the_url(self, gateway: GatewayProcess) -> None:
        try:
            async with asyncio.timeout(SERVED_WITHIN_SECONDS):
                await gateway.until_served(MODEL)
        except TimeoutError:
            said = gateway.last_words or "nothing in its log"
            raise DemoError(f"{MODEL} is not reached through the gateway at {gateway.url}: {said}") from None
        self.clients.swap(gateway.url)
        self.say(
            Kind.NOTE,
            f"the gateway (Envoy) serves {NAME} too. Clients swap one URL, to {gateway.url}; in a cluster "
            f"http://{NAME}-penstock.{NAMESPACE}. While Penstock observes, the gateway lets everything pass.",
        )
