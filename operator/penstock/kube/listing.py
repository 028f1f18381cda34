"""All objects of a type, page by page.

A page token expires when etcd compacts (5 min); then a list begins again. `ask` makes one call with
the given parameters of the query.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

from penstock.kube.api import KubeError, Object

Ask = Callable[[Mapping[str, str]], Awaitable[Object]]
EXPIRED = 410


async def whole_list(ask: Ask, *, page_size: int, label_selector: str = "") -> list[Object]:
    """Return all objects: one more try by pages after a token has expired, then all in one piece."""
    for size in (page_size, page_size, 0):
        try:
            return [each async for page in _pages(ask, size, label_selector) for each in page]
        except KubeError as error:
            if error.status != EXPIRED or not size:
                raise
    raise AssertionError("the last round returns or raises")


async def paged_list(ask: Ask, *, page_size: int) -> AsyncIterator[list[Object]]:
    """Yield pages, for who need not hold all of them at once.

    Where a token has expired all objects come again, those that were there before too.
    """
    for size in (page_size, 0):
        try:
            async for page in _pages(ask, size, ""):
                yield page
        except KubeError as error:
            if error.status != EXPIRED or not size:
                raise
        else:
            return


async def _pages(ask: Ask, size: int, label_selector: str) -> AsyncIterator[list[Object]]:
    query = {"labelSelector": label_selector} if label_selector else {}
    if size:
        query["limit"] = str(size)
    while True:
        page = await ask(query)
        yield page.get("items") or []
        token = (page.get("metadata") or {}).get("continue")
        if not token:
            return
        query["continue"] = token
