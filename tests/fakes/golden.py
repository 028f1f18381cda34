"""Files that show what code makes: a test compares, PENSTOCK_REGENERATE=1 writes, `git diff` tells."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import orjson


def assert_golden(path: Path, made: Any) -> None:
    """Compare with the file, or write it when asked to."""
    text = orjson.dumps(made, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE)
    if os.environ.get("PENSTOCK_REGENERATE") == "1":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text)
    again = f"{path.name} is not what is made now: run the test with PENSTOCK_REGENERATE=1, read the diff"
    assert path.exists(), again
    assert path.read_bytes() == text, again
