"""The real CRDs of the Gateway API, as testbed/gateway-api puts them, and routes to put there."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from penstock.model.spec import (
    HttpRouteRef,
    Mode,
    RoutingSpec,
    RoutingType,
    ServiceKey,
    ServiceRef,
    ServiceSpec,
    Slo,
    TargetRef,
)

SCRIPT = Path(__file__).parents[2] / "testbed" / "gateway-api"


def gateway_api_directory() -> Path:
    """Return the directory of the CRDs; skips where they can be had from nowhere."""
    done = subprocess.run([str(SCRIPT)], capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        pytest.skip(done.stderr.strip())
    return Path(done.stdout.strip())


def http_route_definition() -> dict[str, Any]:
    """Return the CustomResourceDefinition of HTTPRoute."""
    path = gateway_api_directory() / "gateway.networking.k8s.io_httproutes.yaml"
    definition: dict[str, Any] = yaml.safe_load(path.read_text())
    return definition


def a_route(*rules: dict[str, Any], name: str = "chat", **metadata: Any) -> dict[str, Any]:
    """Return an HTTPRoute as a user writes it."""
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": name} | metadata,
        "spec": {"parentRefs": [{"name": "public"}], "rules": list(rules)},
    }


def a_rule(name: str | None, **weights: int | None) -> dict[str, Any]:
    """Return a rule to Services on port 8000; None for a weight that is not given."""
    refs = [
        {"name": service.replace("_", "-"), "port": 8000} | ({} if weight is None else {"weight": weight})
        for service, weight in weights.items()
    ]
    return ({"name": name} if name else {}) | {"backendRefs": refs}


def routed_by_rule(key: ServiceKey, **fields: Any) -> ServiceSpec:
    """Return a service, enforced, whose HTTPRoute `chat` has a rule `main` for it."""
    values: dict[str, Any] = {
        "uid": "u",
        "generation": 1,
        "mode": Mode.ENFORCE,
        "target": TargetRef("apps", "Deployment", "chat"),
        "service": ServiceRef("chat", 8000),
        "model_names": (),
        "slo": Slo(()),
        "routing": RoutingSpec(RoutingType.GATEWAY_API, http_route=HttpRouteRef("chat", "main")),
    }
    return ServiceSpec(key=key, **(values | fields))
