"""Of the namespaces that are listed for the operator, those that refuse are left out, loudly."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from structlog.testing import capture_logs

from fakes.fake_time import on_fake_time
from penstock.controller.namespaces import Namespaces, NamespacesChangedError, find_namespaces, until_changed
from penstock.kube.api import DEPLOYMENTS, INFERENCE_SERVICES, Forbidden, NotFound, Resource, Unavailable

TYPES = (INFERENCE_SERVICES, DEPLOYMENTS)
FORBIDDEN = Forbidden("inferenceservices is forbidden", status=403)
NOT_FOUND = NotFound("page not found", status=404)


class Answers:
    """Refuses some types in some namespaces."""

    def __init__(self, refused: dict[tuple[str, Resource], Exception]) -> None:
        self.refused = refused

    async def glance(self, resource: Resource, namespace: str) -> None:
        if (error := self.refused.get((namespace, resource))) is not None:
            raise error


@pytest.mark.parametrize(
    ("refused", "watched", "left_out"),
    [
        ({}, ("prod", "gone"), ()),
        ({("gone", INFERENCE_SERVICES): FORBIDDEN}, ("prod",), ("gone",)),
        ({("gone", INFERENCE_SERVICES): NOT_FOUND}, ("prod",), ("gone",)),
        ({("gone", DEPLOYMENTS): FORBIDDEN}, ("prod",), ("gone",)),
        ({("gone", DEPLOYMENTS): NOT_FOUND}, ("prod", "gone"), ()),
        ({("gone", INFERENCE_SERVICES): Unavailable("away")}, ("prod", "gone"), ()),
        (
            {("gone", INFERENCE_SERVICES): FORBIDDEN, ("prod", INFERENCE_SERVICES): NOT_FOUND},
            ("prod", "gone"),
            (),
        ),
    ],
)
async def test_a_namespace_that_refuses_is_left_out_unless_all_do(
    refused: Any, watched: tuple[str, ...], left_out: tuple[str, ...]
) -> None:
    assert await find_namespaces(Answers(refused), ("prod", "gone", "prod"), TYPES) == Namespaces(
        watched, left_out
    )


async def test_the_whole_cluster_stays_the_whole_cluster() -> None:
    assert await find_namespaces(Answers({}), (), TYPES) == Namespaces()


async def test_what_is_left_out_is_named_with_what_to_do() -> None:
    with capture_logs() as logs:
        await find_namespaces(Answers({("gone", INFERENCE_SERVICES): FORBIDDEN}), ("prod", "gone"), TYPES)
    assert logs == [
        {
            "log_level": "warning",
            "event": "a namespace is left out: it does not exist any more, or its permissions are gone",
            "namespace": "gone",
            "error": "inferenceservices is forbidden",
            "to_do": "take it from --namespace (the chart's rbac.namespaces), or create it and install the "
            "chart again; when it answers, the operator restarts by itself to watch it",
        }
    ]


@pytest.mark.parametrize(
    ("left_out", "refused", "said"),
    [
        (("gone",), {}, "of the namespaces gone answers again: restarting to watch those that answer"),
        (
            (),
            {("gone", DEPLOYMENTS): FORBIDDEN},
            "of the namespaces gone is refused: restarting to watch those that answer",
        ),
    ],
)
@on_fake_time
async def test_a_namespace_that_comes_or_goes_for_more_than_a_look_ends_the_process(
    left_out: tuple[str, ...], refused: Any, said: str
) -> None:
    before: Any = {(each, INFERENCE_SERVICES): FORBIDDEN for each in left_out}
    api = Answers(before)
    known = Namespaces(tuple(each for each in ("prod", "gone") if each not in left_out), left_out)
    looking = asyncio.create_task(until_changed(api, known, TYPES))
    await asyncio.sleep(50)
    api.refused = refused
    await asyncio.sleep(20)
    api.refused = before  # a Role was replaced meanwhile
    await asyncio.sleep(50)
    assert not looking.done()
    api.refused = refused
    with pytest.raises(NamespacesChangedError, match=f"^{said}$"):
        async with asyncio.timeout(41):  # kopf gives up after 54
            await looking


@pytest.mark.parametrize("error", [FORBIDDEN, Unavailable("the API server is away")])
@pytest.mark.parametrize("left_out", [(), ("gone",)])
@on_fake_time
async def test_where_all_are_refused_or_nobody_answers_a_restart_would_not_help(
    left_out: tuple[str, ...], error: Exception
) -> None:
    everywhere = {(each, INFERENCE_SERVICES): error for each in ("prod", "gone")}
    known = Namespaces(tuple(each for each in ("prod", "gone") if each not in left_out), left_out)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(600):
            await until_changed(Answers(everywhere), known, TYPES)
