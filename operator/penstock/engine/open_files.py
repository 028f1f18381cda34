"""How many files this process may hold open: every connection is one.

Systems often grant 1,024 (the soft limit), and for the asking as many as the hard limit says.
"""

from __future__ import annotations

import contextlib
import resource

ENOUGH = 65_536  # --max-in-flight ends at 20,000; a hard limit may be endless


def raise_file_limit() -> None:
    """Raise the soft limit towards the hard one; a higher one stays, and so does one that is refused."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = ENOUGH if hard == resource.RLIM_INFINITY else min(hard, ENOUGH)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    with contextlib.suppress(OSError, ValueError):  # macOS states a hard limit it does not grant
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
