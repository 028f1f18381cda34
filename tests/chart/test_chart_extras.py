"""What is off by default: it appears when asked for and fits the operator it belongs to."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

Objects = list[dict[str, Any]]
Render = Callable[..., Objects]


@pytest.mark.parametrize(
    ("switch", "kind"),
    [
        ("serviceMonitor.enabled=true", "ServiceMonitor"),
        ("prometheusRule.enabled=true", "PrometheusRule"),
        ("networkPolicy.enabled=true", "NetworkPolicy"),
    ],
)
def test_extras_are_off_until_asked_for(render: Render, switch: str, kind: str) -> None:
    assert kind not in {each["kind"] for each in render()}
    assert kind in {each["kind"] for each in render(switch)}


def rules(objects: Objects) -> list[dict[str, Any]]:
    (found,) = [each for each in objects if each["kind"] == "PrometheusRule"]
    return [rule for group in found["spec"]["groups"] for rule in group["rules"]]


def test_alerts_use_metrics_that_the_operator_exposes(render: Render) -> None:
    from penstock.telemetry.fleet_metrics import BY_OBJECTIVE, GAUGES
    from penstock.telemetry.metrics import OperatorMetrics

    exposed = {f"penstock_service_{name}" for name in (*GAUGES, *BY_OBJECTIVE, "decision")}
    for family in OperatorMetrics().registry.collect():
        exposed |= {sample.name for sample in family.samples} | {family.name, f"{family.name}_total"}
    for rule in rules(render("prometheusRule.enabled=true")):
        used = set(re.findall(r"penstock_[a-z_]+", rule["expr"]))
        assert used, rule["alert"]
        assert used <= exposed, rule["alert"]


def test_every_alert_says_what_and_what_now(render: Render) -> None:
    for rule in rules(render("prometheusRule.enabled=true")):
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"]["summary"].endswith("."), rule["alert"]
        assert rule["annotations"]["description"].endswith("."), rule["alert"]


def test_the_network_policy_lets_in_metrics_and_out_what_is_needed(render: Render) -> None:
    ports = "networkPolicy.egressPorts={443,9090}"
    objects = render("networkPolicy.enabled=true", "gateway.enabled=false", ports)
    (policy,) = [each for each in objects if each["kind"] == "NetworkPolicy"]
    assert policy["spec"]["ingress"] == [{"ports": [{"port": "http", "protocol": "TCP"}]}]
    out = {port["port"] for rule in policy["spec"]["egress"] for port in rule["ports"]}
    assert out == {53, 443, 9090}
    (deployment,) = [each for each in objects if each["kind"] == "Deployment"]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert policy["spec"]["podSelector"]["matchLabels"].items() <= labels.items()


def test_the_crd_stays_on_uninstall_unless_told_otherwise(render: Render) -> None:
    def crd(*values: str) -> list[dict[str, Any]]:
        return [each for each in render(*values) if each["kind"] == "CustomResourceDefinition"]

    assert crd()[0]["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert "annotations" not in crd("crds.keep=false")[0]["metadata"]
    assert crd("crds.install=false") == []
