"""Listing everything now and then finds what a watch that has ended without a sound did not tell."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

from penstock.controller import cache
from penstock.controller.between_ticks import BetweenTicks
from penstock.controller.cache import FleetCache
from penstock.controller.handlers import feeds
from penstock.controller.relist import Relister
from penstock.kube.api import INFERENCE_SERVICES, Forbidden, KubeError, NotFound, Object, Resource
from penstock.model.parse import parse_service
from penstock.model.spec import ServiceKey
from penstock.telemetry.metrics import OperatorMetrics


def listed(name: str, version: int, **metadata: str) -> Object:
    about = {"namespace": "prod", "name": name, "uid": name, "generation": 1, "resourceVersion": str(version)}
    return {"metadata": about | metadata, "spec": {}}


class Listing:
    """Answers with `services`, two a page, and `others` by type; `between` is called after each page."""

    def __init__(self, *services: Object) -> None:
        self.services = list(services)
        self.others: dict[str, list[Object]] = {}
        self.refused: dict[str, KubeError] = {}
        self.gone: set[str] = set()  # namespaces that answer 403
        self.between: Callable[[], None] = lambda: None

    async def pages(self, resource: Resource, namespace: str = "") -> AsyncIterator[list[Object]]:
        if namespace in self.gone:
            raise Forbidden(f'cannot list {resource.plural} in the namespace "{namespace}"', status=403)
        if resource.plural in self.refused:
            raise self.refused[resource.plural]
        found = self.services if resource is INFERENCE_SERVICES else self.others.get(resource.plural, [])
        if namespace:
            found = [each for each in found if each["metadata"]["namespace"] == namespace]
        for first in range(0, len(found), 2):
            yield found[first : first + 2]
            self.between()


class Watching:
    """A cache that is listed again."""

    def __init__(self, *services: Object, has_keda: bool = False, namespaces: tuple[str, ...] = ()) -> None:
        self.cache, self.metrics, self.api = FleetCache(), OperatorMetrics(), Listing(*services)
        watched = feeds(self.cache, pods_identify=False, has_keda=has_keda, endpoints=None)
        self.feeds = {feed.resource.plural: feed for feed in watched}
        self.relister = Relister(self.api, watched, self.metrics, namespaces, BetweenTicks())

    @property
    def missed(self) -> float:
        return float(self.metrics.registry.get_sample_value("penstock_cache_drift_total") or 0.0)

    def names(self) -> set[str]:
        return {key.name for key in self.cache.services}


async def test_the_first_listing_fills_the_cache_and_misses_nothing() -> None:
    watching = Watching(listed("a", 1), listed("b", 2), listed("c", 3))
    assert not watching.relister.complete.is_set()
    await watching.relister.pass_over()
    assert watching.relister.complete.is_set()
    assert (watching.names(), watching.missed) == ({"a", "b", "c"}, 0)


@pytest.mark.parametrize(
    ("now", "names", "missed"),
    [
        ([listed("a", 1), listed("b", 2)], {"a", "b"}, 0),
        ([listed("a", 9), listed("b", 2)], {"a", "b"}, 1),
        ([listed("a", 1), listed("b", 2), listed("c", 3)], {"a", "b", "c"}, 1),
        ([listed("a", 3, uid="another"), listed("b", 2)], {"a", "b"}, 1),
        ([listed("b", 2)], {"b"}, 1),
        ([listed("b", 7, deletionTimestamp="2026-11-22T05:00:00Z")], set(), 2),
    ],
)
async def test_what_the_watch_did_not_tell_is_repaired_and_counted(
    now: list[Object], names: set[str], missed: int
) -> None:
    watching = Watching(listed("a", 1), listed("b", 2))
    await watching.relister.pass_over()
    watching.api.services = now
    await watching.relister.pass_over()
    assert (watching.names(), watching.missed) == (names, missed)


async def test_what_the_watch_tells_while_everything_is_listed_was_not_missed() -> None:
    watching = Watching(*(listed(name, 1) for name in "abcd"))
    await watching.relister.pass_over()
    services = watching.feeds["inferenceservices"]

    def told() -> None:
        services.see(listed("a", 5))
        services.see(listed("d", 5, uid="newer"))  # its page, older by now, is still to come
        services.see(listed("e", 5))
        services.forget(listed("b", 6))

    watching.api.between = told
    watching.api.services = [listed(name, 1) for name in "abcd"]
    await watching.relister.pass_over()
    assert watching.missed == 0
    assert watching.cache.services[ServiceKey("prod", "d")].uid == "newer"
    assert watching.names() == {"a", "c", "d", "e"}


async def test_without_the_crd_it_says_what_to_apply() -> None:
    watching = Watching()
    watching.api.refused["inferenceservices"] = NotFound("no such type", status=404)
    with pytest.raises(KubeError, match="the InferenceService CRD is not installed: apply crds/"):
        await watching.relister.pass_over()
    assert not watching.relister.complete.is_set()


@pytest.mark.parametrize("why", [NotFound("gone", status=404), Forbidden("not yours", status=403)])
async def test_a_cluster_without_keda_is_listed_all_the_same(why: Any) -> None:
    watching = Watching(listed("a", 1), has_keda=True)
    watching.api.refused["scaledobjects"] = why
    await watching.relister.pass_over()
    assert watching.names() == {"a"}


async def test_a_namespace_that_goes_does_not_stop_the_listing_of_the_others() -> None:
    watching = Watching(
        listed("a", 1), listed("b", 2, namespace="stage"), namespaces=("gone", "prod", "stage")
    )
    watching.api.gone = {"gone"}
    with capture_logs() as logs:
        await watching.relister.pass_over()
    assert watching.relister.complete.is_set()
    assert watching.names() == {"a", "b"}
    assert ("a namespace cannot be listed", "gone") in {(each["event"], each["namespace"]) for each in logs}


async def test_when_all_namespaces_are_refused_it_is_not_complete_and_says_why() -> None:
    watching = Watching(listed("a", 1), namespaces=("gone", "prod"))
    watching.api.gone = {"gone", "prod"}
    with pytest.raises(Forbidden, match='cannot list inferenceservices in the namespace "gone"'):
        await watching.relister.pass_over()
    assert not watching.relister.complete.is_set()


async def test_an_autoscaler_whose_deletion_nobody_told_holds_its_target_no_longer() -> None:
    watching = Watching(listed("a", 1))
    target = {"scaleTargetRef": {"kind": "Deployment", "name": "chat"}}
    watching.api.others["horizontalpodautoscalers"] = [listed("chat", 3) | {"spec": target}]
    await watching.relister.pass_over()
    assert watching.cache.autoscalers
    watching.api.others.clear()
    await watching.relister.pass_over()
    assert not watching.cache.autoscalers
    assert watching.missed == 1


async def test_what_was_left_by_an_uninstalled_keda_holds_nothing() -> None:
    watching = Watching(listed("a", 1), has_keda=True)
    target = {"scaleTargetRef": {"name": "chat"}}
    watching.api.others["scaledobjects"] = [listed("chat", 3) | {"spec": target}]
    await watching.relister.pass_over()
    assert watching.cache.autoscalers
    watching.api.refused["scaledobjects"] = NotFound("no such type", status=404)
    await watching.relister.pass_over()
    assert not watching.cache.autoscalers


@pytest.mark.parametrize("another", ["deployments", "services", "horizontalpodautoscalers"])
async def test_a_change_of_another_type_that_is_on_its_way_is_no_drift(another: str) -> None:
    watching = Watching(listed("a", 1))
    watching.api.others[another] = [listed("chat", 3)]
    await watching.relister.pass_over()
    watching.api.others[another] = [listed("chat", 4), listed("new", 5)]
    await watching.relister.pass_over()
    assert watching.missed == 0


async def test_a_service_that_cannot_be_read_is_shown_as_invalid_and_ends_no_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def unlucky(body: Object) -> Any:
        if body["metadata"]["name"] == "b":
            raise RecursionError("maximum recursion depth exceeded")
        return parse_service(body)

    monkeypatch.setattr(cache, "parse_service", unlucky)
    watching = Watching(listed("a", 1), listed("b", 2), listed("c", 3))
    running = asyncio.create_task(watching.relister.run(600.0))
    try:
        await asyncio.wait_for(watching.relister.complete.wait(), 10.0)
        assert not running.done()
    finally:
        running.cancel()
    assert watching.names() == {"a", "b", "c"}
    assert str(watching.cache.services[ServiceKey("prod", "b")].invalid) == (
        "spec: a defect of Penstock met it: RecursionError: maximum recursion depth exceeded: report it with "
        "the operator's log"
    )

    def unread() -> float | None:
        return watching.metrics.registry.get_sample_value(
            "penstock_unread_objects", {"kind": "inferenceservices"}
        )

    assert unread() == 1
    watching.feeds["inferenceservices"].see(listed("b", 4) | {"status": {"conditions": []}})
    await watching.relister.pass_over()
    assert unread() == 1, "a new status mends no spec"
    monkeypatch.undo()
    watching.feeds["inferenceservices"].see(listed("b", 5))
    await watching.relister.pass_over()
    assert unread() == 0


async def test_a_template_that_no_pod_can_have_is_refused_at_a_start_like_any_other_mistake() -> None:
    inner: Any = {}
    for _ in range(700):
        inner = {"in": inner}
    deep = listed("deep", 2)
    template = {"spec": {"containers": [{"name": "engine"}], "other": inner}}
    deep["spec"] = {"workload": {"type": "Template", "template": template}, "slo": {"ttft": {"p95": "1s"}}}
    watching = Watching(listed("a", 1), deep)
    await watching.relister.pass_over()
    invalid = watching.cache.services[ServiceKey("prod", "deep")].invalid
    assert invalid is not None
    assert invalid.path == "spec.workload.template"
