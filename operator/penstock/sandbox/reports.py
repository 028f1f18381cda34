"""Writes what became of pods and Deployments to the API: bindings, annotations, statuses. Only changes."""

from __future__ import annotations

import time
from collections.abc import Sequence

from penstock.kube.api import DEPLOYMENTS, PODS, Object
from penstock.sandbox.bodies import URL, deployment_status, pod_status
from penstock.sandbox.local_pod import LocalPod
from penstock.sandbox.rest import RestClient, RestError
from penstock.sandbox.rollout import strategy_of


class Reports:
    """The writing half of scheduler, kubelet and Deployment controller. Calls raise `RestError`."""

    def __init__(self, api: RestClient, namespace: str) -> None:
        self._api = api
        self._namespace = namespace

    async def pod(self, pod: LocalPod) -> None:
        """Bring the Pod object into line; a pod that somebody deleted meanwhile is left alone."""
        try:
            await self._pod(pod)
        except RestError as error:
            if error.status != 404:
                raise

    async def _pod(self, pod: LocalPod) -> None:
        path = PODS.path(self._namespace, pod.name)
        if pod.node and "node" not in pod.written:
            await self._bind(pod, path)
            pod.written["node"] = pod.node
        if pod.url != pod.written.get("url", ""):
            await self._api.merge(path, {"metadata": {"annotations": {URL: pod.url or None}}})
            pod.written["url"] = pod.url
        status = pod_status(pod)
        if status != pod.written.get("status"):
            await self._api.merge(f"{path}/status", {"status": status})
            pod.written["status"] = status

    async def _bind(self, pod: LocalPod, path: str) -> None:
        binding = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": pod.name},
            "target": {"apiVersion": "v1", "kind": "Node", "name": pod.node},
        }
        try:
            await self._api.create(f"{path}/binding", binding)
        except RestError as error:
            if error.status not in (404, 405):
                raise
            await self._api.merge(path, {"spec": {"nodeName": pod.node}})  # a fake API without bindings

    async def deployment(self, body: Object, pods: Sequence[LocalPod], failure: str) -> Object:
        """Bring the status into line; returns the Deployment as it is known now."""
        replicas = body["spec"].get("replicas", 1)
        status = deployment_status(
            body,
            pods,
            least_available=replicas - strategy_of(body["spec"], replicas).unavailable,
            failure=failure,
            now=time.time(),
        )
        if _without_zeros(status) == _without_zeros(body.get("status") or {}):
            return body
        path = DEPLOYMENTS.path(self._namespace, body["metadata"]["name"], "status")
        try:
            answer = await self._api.merge(path, {"status": status})
        except RestError as error:
            if error.status != 404:
                raise
            return body
        return {**body, "status": answer["status"]}


def _without_zeros(status: Object) -> Object:
    return {key: value for key, value in status.items() if value != 0}  # a real API server leaves them out
