"""Raw counters of every canary's two arms at one instant: one query per signal for all of them together.

Counters are read as they are, not as rates: what an arm added is the difference between two readings
(policy/canary_counts.py), which a lost scrape only delays. A pod whose newest sample is stale has no
value; nothing that Prometheus does raises here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from penstock.metrics_source.arm_types import Arm as Arm
from penstock.metrics_source.arm_types import ArmsRead as ArmsRead
from penstock.metrics_source.arm_types import ArmsWanted as ArmsWanted
from penstock.metrics_source.arm_types import ErrorSource as ErrorSource
from penstock.metrics_source.arm_types import Lack as Lack
from penstock.metrics_source.ask import CollectLimits
from penstock.metrics_source.base import MetricsSource
from penstock.metrics_source.identity import SeriesSettings
from penstock.model.spec import ServiceKey

ARM_LIMITS = CollectLimits(deadline_seconds=5.0)


async def read_arms(
    source: MetricsSource,
    wanted: Sequence[ArmsWanted],
    *,
    at: float,
    settings: SeriesSettings,
    limits: CollectLimits = ARM_LIMITS,
) -> Mapping[ServiceKey, ArmsRead]:
    """Return both arms of each service as of `at` (Unix seconds), by its key.

    `settings` name the labels namespace and pod. Nothing is asked when `wanted` is empty.
    """
    raise NotImplementedError
