"""How many replicas a canary needs for its share, and which share its ready replicas may have.

At equal load per replica a canary with c replicas beside s stable ones has c/(c+s) of the requests:

    c = ceil(s p / (100 - p)),    w <= 100 c / (c + s)

So both arms are compared under the same load, and a canary is never sent more than the stable arm would
carry with as many replicas. Argo Rollouts sent 70 % to a canary scaled for 5 % on the way back (PR 4612);
here the weight falls with the endpoints, whatever the state. In whole numbers: 100 * 1 // 20 is 5.
"""

from __future__ import annotations


def replicas_for(percent: int, stable: int) -> int:
    """Return the canary's replicas for `percent` (1..99) of the requests beside `stable` replicas."""
    return max(1, -(-stable * percent // (100 - percent)))


def bearable_percent(ready: int, stable_ready: int) -> int:
    """Return the largest share at which a ready canary replica has no more load than a stable one."""
    return 100 * ready // (ready + stable_ready) if ready > 0 else 0


def shifted_percent(ready: int, needed: int) -> int:
    """Return the share of an arm that takes over: all, as soon as it has the replicas for the whole load."""
    return min(100, 100 * ready // needed) if needed > 0 else 0
