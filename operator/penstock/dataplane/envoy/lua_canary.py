"""The part of a route's script that chooses an arm: there only while a canary has a share of the requests.

* With a header: the hash of its value, modulo 10,000, below the weight: the same value stays where it is
  while the weight only rises. Requests without the header, and all where none is named, are drawn at random.
* A request that the gateway does not keep whole goes to the primary, unless that has nobody: what the canary
  fails of it could not be sent again. Chunked ones are among them, their length is not known.
* A canary at its limit sends on to the primary. The stable arm is never closed for it, nor is a request held
  up; a canary whose clusters have not arrived counts as full, so that no order of answers makes a 503.

The hash is Jenkins's one-at-a-time: additions, shifts and exclusive ors, exact in Lua's numbers. Its start is
of the service, so that it is not always the same clients who try what is new.
Source: B. Jenkins, "Hash Functions", Dr. Dobb's Journal, September 1997.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from penstock.dataplane.envoy.lua_values import lua_number, lua_text
from penstock.dataplane.envoy.proxy_limits import KEPT_BODY_BYTES

PARTS: Final = 10_000
LONGEST_HASHED_BYTES: Final = 1024  # of a header's value: tokens differ within their first half
_BITS: Final = 0xFFFF_FFFF

ARM_OF: Final = """\
local bits = require("bit")

local function part_of(value)
  local hash = service.canary_seed
  for index = 1, math.min(#value, LONGEST) do
    hash = bits.tobit(hash + value:byte(index))
    hash = bits.tobit(hash + bits.lshift(hash, 10))
    hash = bits.bxor(hash, bits.rshift(hash, 6))
  end
  hash = bits.tobit(hash + bits.lshift(hash, 3))
  hash = bits.bxor(hash, bits.rshift(hash, 11))
  return bits.tobit(hash + bits.lshift(hash, 15)) % PARTS
end

local function can_be_repeated(headers)
  local length = headers:get("content-length")
  if length then return (tonumber(length) or math.huge) <= service.kept_body_bytes end
  local method = headers:get(":method")
  return method == "GET" or method == "HEAD"
end

local function is_drawn(headers)
  if service.stable_serves and not can_be_repeated(headers) then return false end
  local value = service.sticky_header and headers:get(service.sticky_header)
  return (value and part_of(value) or math.random() * PARTS) < service.canary_parts
end

local function arm_of(route, headers, class, spill)
  if is_drawn(headers) then
    local arm = route:getCluster(service.canary_pool)
    if arm and route:getCluster(service.canary) then
      local limit = service.canary_limit
      if not limit or arm:numRequests() + arm:numPendingRequests() < limit then return service.canary end
    end
  end
  if not service.stable_serves then return spill or service.shed[class] end
  return spill and service.any or service.primary
end
""".replace("PARTS", str(PARTS)).replace("LONGEST", str(LONGEST_HASHED_BYTES))


@dataclass(frozen=True, slots=True)
class CanaryConstants:
    """What the script knows of a canary.

    `cluster` gets its requests, of which `pool` counts the load; `parts` of 10,000 requests are drawn.
    """

    cluster: str
    pool: str
    parts: int
    sticky_header: str = ""
    limit: int | None = None
    stable_serves: bool = True


def canary_fields(canary: CanaryConstants) -> dict[str, str]:
    """Return the constants as Lua source by name."""
    return {
        "canary": lua_text(canary.cluster),
        "canary_pool": lua_text(canary.pool),
        "canary_parts": lua_number(canary.parts),
        "canary_seed": lua_number(_signed(_mixed(canary.pool.encode(), 0))),
        "canary_limit": "nil" if canary.limit is None else lua_number(canary.limit),
        "sticky_header": lua_text(canary.sticky_header) if canary.sticky_header else "nil",
        "kept_body_bytes": lua_number(KEPT_BODY_BYTES),
        "stable_serves": "true" if canary.stable_serves else "false",
    }


def sticky_part(pool: str, value: str) -> int:
    """Return where a header's value falls, 0..9999: below the weight x 100, its requests are the canary's."""
    mixed = _mixed(value.encode()[:LONGEST_HASHED_BYTES], _mixed(pool.encode(), 0))
    mixed = (mixed + (mixed << 3)) & _BITS
    mixed ^= mixed >> 11
    return _signed((mixed + (mixed << 15)) & _BITS) % PARTS


def _mixed(text: bytes, start: int) -> int:
    for byte in text:
        start = (start + byte) & _BITS
        start = (start + (start << 10)) & _BITS
        start ^= start >> 6
    return start


def _signed(number: int) -> int:
    return number - (1 << 32) if number >> 31 else number
