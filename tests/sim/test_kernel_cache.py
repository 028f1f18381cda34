"""The compiled loops' cache knows every file that ends up in them."""

from __future__ import annotations

import ast
from pathlib import Path

import penstock
from penstock.sim import compiled

PACKAGE = Path(penstock.__file__).parent


def modules_of(source: str) -> set[str]:
    tree = ast.parse((PACKAGE / source).read_text())
    return {
        node.module.removeprefix("penstock.").replace(".", "/") + ".py"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("penstock.")
    }


def test_every_file_with_a_compiled_function_is_known():
    kernels = {
        f"sim/{path.name}" for path in (PACKAGE / "sim").glob("*.py") if "@compiled\n" in path.read_text()
    }
    assert kernels <= set(compiled._SOURCES)


def test_every_file_that_compiled_functions_take_names_from_is_known():
    types_only = {"queueing/domain.py", "queueing/engine_profile.py", "sim/scenario.py", "sim/policy_port.py"}
    for source in ("sim/engine.py", "sim/fleet.py", "sim/series.py", "sim/state.py"):
        assert modules_of(source) - types_only <= set(compiled._SOURCES), source
