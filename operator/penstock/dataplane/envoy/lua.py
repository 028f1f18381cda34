"""The one decision per request, as a Lua cluster specifier with its constants in a table.

Order, the first that applies:
1. the class: its header where the service names one and the value is a known class, else the default class;
2. spilling is possible when the client did not opt out, the class may, fewer than `spill_limit` of this
   service's requests are in the fallback's pool, and fewer than `pool_limit` of anybody's;
3. primary without endpoints: the fallback if possible, else the primary, which answers 503;
4. the planned share of requests goes to the fallback if possible;
5. fewer than the class's limit in the service's pool, both arms together: let in. While a canary has a share
   and room, to it by draw, or by the hash of a header's value (with the stable arm behind it); else to the
   primary (with the fallback behind it if possible);
6. the fallback if possible; else the class is shed: 429.

A pool's load is running plus waiting requests of every cluster into it: running alone let a cold burst of 14
past a limit of 6 by 2 to 5. The script sees no runtime keys, so limits and weights come by RDS. Without a
canary that has a share, nothing of it is in the script.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from penstock.dataplane.envoy.lua_canary import ARM_OF, CanaryConstants, canary_fields
from penstock.dataplane.envoy.lua_values import lua_list, lua_number, lua_table, lua_text
from penstock.dataplane.envoy.names import OPT_OUT

_TO_PRIMARY: Final = "return spill and service.any or service.primary"
_TO_AN_ARM: Final = "return arm_of(route, headers, class, spill)"

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
    canary: CanaryConstants | None = None  # None: it has no share, or there is none


def script(constants: RouteConstants) -> str:
    """Return the Lua source of a route."""
    fields = {
        "primary": lua_text(constants.primary),
        "any": lua_text(constants.any),
        "rescue": lua_text(constants.rescue),
        "has_endpoints": "true" if constants.has_endpoints else "false",
        "class_header": lua_text(constants.class_header) if constants.class_header else "nil",
        "default_class": lua_text(constants.default_class),
        "limit": "nil" if constants.limit is None else lua_table(constants.limit),
        "own_pool": lua_list(constants.own_pool),
        "planned_ratio": lua_number(constants.planned_ratio),
        "spill": lua_table(constants.spill),
        "spill_limit": lua_number(constants.spill_limit),
        "into_fallback": lua_list(constants.into_fallback),
        "pool_limit": "nil" if constants.pool_limit is None else lua_number(constants.pool_limit),
        "fallback_pool": lua_list(constants.fallback_pool),
        "shed": lua_table(constants.shed),
    }
    code = _SCRIPT
    if constants.canary is not None:
        fields |= canary_fields(constants.canary)
        # First the call, then the function: its own last line is the one replaced.
        code = _SCRIPT.replace(_TO_PRIMARY, _TO_AN_ARM)
        code = code.replace("function envoy_on_route", f"{ARM_OF}\nfunction envoy_on_route")
    lines = (f"  {name} = {value}," for name, value in fields.items())
    return "\n".join(("local service = {", *lines, "}", code))
