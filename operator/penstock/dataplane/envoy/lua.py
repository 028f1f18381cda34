"""The one decision per request, as a Lua cluster specifier with its constants in a table.

Order, the first that applies:
1. the class: its header where the service names one and the value is a known class, else the default class;
2. spilling is possible when the client did not opt out, the class may, fewer than `spill_limit` of this
   service's requests are in the fallback's pool, and fewer than `pool_limit` of anybody's;
3. primary without endpoints: the fallback if possible, else the primary, which answers 503;
4. the planned share of requests goes to the fallback if possible;
5. fewer than the class's limit in the primary's pool: the primary (with the fallback behind it if possible);
6. the fallback if possible; else the class is shed: 429.

A pool's load is running plus waiting requests of every cluster into it: running alone let a cold burst of 14
past a limit of 6 by 2 to 5. The script sees no runtime keys, so limits come by RDS.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from penstock.dataplane.envoy.names import OPT_OUT

_SCRIPT: Final = """\
math.randomseed(os.time() + math.floor(os.clock() * 1e6))

local function load(route, clusters)
  local requests = 0
  for _, name in ipairs(clusters) do
    local cluster = route:getCluster(name)
    if cluster then requests = requests + cluster:numRequests() + cluster:numPendingRequests() end
  end
  return requests
end

local function class_of(headers)
  local named = service.class_header and headers:get(service.class_header)
  if named and service.shed[named] then return named end
  return service.default_class
end

local function spill_of(route, headers, class)
  local spill = service.spill[class]
  if not spill or headers:get("OPT_OUT") == "never" then return nil end
  if load(route, service.into_fallback) >= service.spill_limit then return nil end
  if service.pool_limit and load(route, service.fallback_pool) >= service.pool_limit then return nil end
  return spill
end

function envoy_on_route(route)
  local headers = route:headers()
  local class = class_of(headers)
  local spill = spill_of(route, headers, class)
  if not service.has_endpoints then return spill and service.rescue or service.primary end
  if spill and math.random() < service.planned_ratio then return spill end
  if not service.limit or load(route, service.own_pool) < service.limit[class] then
    return spill and service.any or service.primary
  end
  return spill or service.shed[class]
end
""".replace("OPT_OUT", OPT_OUT)


@dataclass(frozen=True, slots=True)
class RouteConstants:
    """What the script of one service's route knows; clusters by name.

    `limit` None: everything passes. Classes absent from `spill` may not go to the fallback.
    `own_pool` and `fallback_pool`: every cluster of the group that sends into that pool.
    """

    primary: str
    any: str
    rescue: str
    default_class: str
    shed: Mapping[str, str]
    own_pool: Sequence[str]
    class_header: str = ""
    limit: Mapping[str, int] | None = None
    has_endpoints: bool = True
    spill: Mapping[str, str] = field(default_factory=dict)
    into_fallback: Sequence[str] = ()
    fallback_pool: Sequence[str] = ()
    spill_limit: int = 0
    pool_limit: int | None = None
    planned_ratio: float = 0.0


def script(constants: RouteConstants) -> str:
    """Return the Lua source of a route."""
    fields = {
        "primary": _text(constants.primary),
        "any": _text(constants.any),
        "rescue": _text(constants.rescue),
        "has_endpoints": "true" if constants.has_endpoints else "false",
        "class_header": _text(constants.class_header) if constants.class_header else "nil",
        "default_class": _text(constants.default_class),
        "limit": "nil" if constants.limit is None else _table(constants.limit),
        "own_pool": _list(constants.own_pool),
        "planned_ratio": _number(constants.planned_ratio),
        "spill": _table(constants.spill),
        "spill_limit": _number(constants.spill_limit),
        "into_fallback": _list(constants.into_fallback),
        "pool_limit": "nil" if constants.pool_limit is None else _number(constants.pool_limit),
        "fallback_pool": _list(constants.fallback_pool),
        "shed": _table(constants.shed),
    }
    lines = (f"  {name} = {value}," for name, value in fields.items())
    return "\n".join(("local service = {", *lines, "}", _SCRIPT))


def _text(value: str) -> str:
    # Class and header names are a user's words: anything but these could end the string.
    kept = (
        chr(byte) if (byte < 128 and chr(byte).isalnum()) or byte in b"-_." else f"\\{byte:03d}"
        for byte in value.encode()
    )
    return '"' + "".join(kept) + '"'


def _number(value: float) -> str:
    if not math.isfinite(value):
        raise ValueError(f"not a number for a route: {value}")
    return repr(value)


def _list(values: Sequence[str]) -> str:
    return "{" + ", ".join(map(_text, values)) + "}"


def _table(values: Mapping[str, str] | Mapping[str, int]) -> str:
    pairs = (
        f"[{_text(key)}] = {_text(value) if isinstance(value, str) else _number(value)}"
        for key, value in values.items()
    )
    return "{" + ", ".join(pairs) + "}"
