"""docs/api.md is what docs/render makes of the CRD today."""

from __future__ import annotations

import subprocess
import sys

from fakes.schema_walk import REPOSITORY, properties, root


def test_the_page_is_current() -> None:
    done = subprocess.run(
        [sys.executable, "docs/render", "--check"], cwd=REPOSITORY, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


def test_every_field_is_on_the_page() -> None:
    page = (REPOSITORY / "docs" / "api.md").read_text()
    for at, schema in properties(root()):
        if at[0] in ("spec", "status") and at[-1] != "[]":
            assert f"`{at[-1]}`" in page or f"\n## {'.'.join(at)}" in page.replace("[]", ""), at
            assert schema["description"] in page.replace("\\", ""), at
