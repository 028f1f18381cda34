"""Files that are made from others are what their sources make."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "penstock"

Objects = list[dict[str, Any]]


def crd_source() -> dict[str, Any]:
    (path,) = (ROOT / "crds").glob("*.yaml")
    body: dict[str, Any] = yaml.safe_load(path.read_text())
    return body


def test_the_charts_crd_template_is_current(render_script: Any) -> None:
    made = render_script.chart_crds()
    assert (CHART / "templates" / "crds.yaml").read_text() == made, "run 'make generate'"


def test_the_plain_install_is_current(render_script: Any, helm: str) -> None:
    made = render_script.plain_install(helm)
    assert (ROOT / "manifests" / "install.yaml").read_text() == made, "run 'make generate'"


def test_the_charts_crd_is_the_source_of_truth(render: Callable[..., Objects]) -> None:
    (rendered,) = [each for each in render() if each["kind"] == "CustomResourceDefinition"]
    assert rendered["spec"] == crd_source()["spec"]
    assert rendered["metadata"]["name"] == crd_source()["metadata"]["name"]


def test_the_plain_install_is_complete_and_does_not_speak_of_helm() -> None:
    text = (ROOT / "manifests" / "install.yaml").read_text()
    objects = [each for each in yaml.safe_load_all(text) if each]
    assert "helm.sh" not in text
    assert "managed-by" not in text
    assert objects[0]["kind"] == "Namespace"
    assert {"Deployment", "ClusterRole", "ServiceAccount", "CustomResourceDefinition"} <= {
        each["kind"] for each in objects
    }
    cluster_wide = {"Namespace", "CustomResourceDefinition", "ClusterRole", "ClusterRoleBinding"}
    for each in objects:
        if each["kind"] not in cluster_wide:
            assert each["metadata"]["namespace"] == "penstock-system", each["kind"]
