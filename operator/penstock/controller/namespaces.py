"""Which of the listed namespaces can be watched: the Role of a deleted one is gone, and all calls answer 403.

One refused watch would end kopf, and with it the operator for all the others: such a namespace is left out
until it answers again. Each change takes a restart, because kopf is told once what to watch.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NoReturn, Protocol

import structlog

from penstock.kube.api import INFERENCE_SERVICES, Forbidden, KubeError, NotFound, Resource

log = structlog.get_logger(__name__)
# Changes are acted upon at the second look. kopf gives up a refused watch after 54 s, and 25 s later it kills
# the process, which then has not released its Lease.
LOOK_EVERY_SECONDS = 20.0


class GlancingApi(Protocol):
    """What is asked of the API server."""

    async def glance(self, resource: Resource, namespace: str) -> None:
        """List at most one object of a type. Raises `KubeError`."""


class NamespacesChangedError(Exception):
    """What can be watched is not what is watched: the process ends, and begins anew."""


@dataclass(frozen=True, slots=True)
class Namespaces:
    """Those to watch, none for the whole cluster, and those that are left out."""

    watched: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()


async def find_namespaces(
    kube: GlancingApi, listed: Sequence[str], resources: Sequence[Resource]
) -> Namespaces:
    """Tell the namespaces that may be watched from those where a list of `resources` is refused.

    Where all are refused none is left out: then it is not the namespaces, and the first listing says what.
    """
    listed = tuple(dict.fromkeys(listed))
    refused = await _refusals(kube, listed, resources)
    watched = tuple(namespace for namespace in listed if namespace not in refused)
    if not watched:
        return Namespaces(listed)
    for namespace, why in refused.items():
        log.warning(
            "a namespace is left out: it does not exist any more, or its permissions are gone",
            namespace=namespace,
            error=why,
            to_do="take it from --namespace (the chart's rbac.namespaces), or create it and install the "
            "chart again; when it answers, the operator restarts by itself to watch it",
        )
    return Namespaces(watched, tuple(refused))


async def until_changed(kube: GlancingApi, namespaces: Namespaces, resources: Sequence[Resource]) -> NoReturn:
    """Raise `NamespacesChangedError` when one that is left out answers again, or a watched one is refused.

    Not where all are refused, since a restart would not help, nor at the first look: a Role may be replaced.
    """
    listed = (*namespaces.watched, *namespaces.left_out)
    left_out = before = frozenset(namespaces.left_out)
    while True:
        await asyncio.sleep(LOOK_EVERY_SECONDS)
        refused = frozenset(await _refusals(kube, listed, resources, otherwise=left_out))
        if refused == before != left_out and len(refused) < len(listed):
            said = [f"{namespace} answers again" for namespace in sorted(left_out - refused)]
            said += [f"{namespace} is refused" for namespace in sorted(refused - left_out)]
            raise NamespacesChangedError(
                f"of the namespaces {', '.join(said)}: restarting to watch those that answer"
            )
        before = refused


async def _refusals(
    kube: GlancingApi,
    listed: Sequence[str],
    resources: Sequence[Resource],
    *,
    otherwise: Collection[str] = (),
) -> dict[str, str]:
    """Return the namespaces that refuse, and why; `otherwise` where the API server does not tell now."""

    async def refusal(namespace: str) -> str:
        try:
            return await _refusal(kube, namespace, resources)
        except KubeError as error:
            return error.message if namespace in otherwise else ""

    said = await asyncio.gather(*map(refusal, listed))
    return {namespace: why for namespace, why in zip(listed, said, strict=True) if why}


async def _refusal(kube: GlancingApi, namespace: str, resources: Sequence[Resource]) -> str:
    for resource in resources:
        try:
            await kube.glance(resource, namespace)
        except Forbidden as error:
            return error.message
        except NotFound as error:
            if resource is INFERENCE_SERVICES:  # of another type: it is not installed
                return error.message
    return ""
