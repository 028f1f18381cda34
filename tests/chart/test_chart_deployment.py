"""The operator's pod: what it runs, with which rights on its node, and how it is watched."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

CHART = Path(__file__).resolve().parents[2] / "charts" / "penstock"

Objects = list[dict[str, Any]]
Render = Callable[..., Objects]


def deployment(objects: Objects) -> dict[str, Any]:
    (found,) = [each for each in objects if each["kind"] == "Deployment"]
    return found


def pod(objects: Objects) -> dict[str, Any]:
    found: dict[str, Any] = deployment(objects)["spec"]["template"]["spec"]
    return found


def arguments(objects: Objects) -> list[str]:
    found: list[str] = pod(objects)["containers"][0]["args"]
    return found


def parsed(objects: Objects) -> dict[str, Any]:
    """The pod's arguments as `penstock run` itself reads them; an unknown flag fails here."""
    from penstock.cli.run import run

    first, *rest = arguments(objects)
    assert first == "run"
    with click.Context(run, info_name="run") as context:
        run.parse_args(context, rest)
        return dict(context.params)


def test_the_pod_meets_the_restricted_security_standard(render: Render) -> None:
    spec = pod(render())
    assert spec["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 65532,
        "runAsGroup": 65532,
        "fsGroup": 65532,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    (container,) = spec["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    for forbidden in ("hostNetwork", "hostPID", "hostIPC"):
        assert forbidden not in spec
    assert all({"secret", "configMap"} & volume.keys() for volume in spec["volumes"])
    assert "volumes" not in pod(render("gateway.enabled=false"))


def test_a_new_pod_is_ready_before_the_old_one_goes(render: Render) -> None:
    spec = deployment(render())["spec"]
    assert spec["strategy"] == {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0},
    }
    assert spec["template"]["spec"]["terminationGracePeriodSeconds"] == 30


def test_probes_ask_the_port_that_the_operator_listens_on(render: Render) -> None:
    objects = render()
    (container,) = pod(objects)["containers"]
    assert container["ports"][0] == {"name": "http", "containerPort": 8080, "protocol": "TCP"}
    assert parsed(objects)["listen"] == ("0.0.0.0", 8080)
    assert container["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "http"}
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "http"}
    (service,) = [
        each for each in objects if each["kind"] == "Service" and each["metadata"]["name"] == "penstock"
    ]
    assert service["spec"]["ports"][0]["targetPort"] == "http"
    labels = deployment(objects)["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()


def test_the_chart_changes_no_default_of_the_command(render: Render) -> None:
    from penstock.cli.run import run

    with click.Context(run, info_name="run") as context:
        run.parse_args(context, ["--prometheus-url", "http://prometheus.monitoring:9090"])
        defaults = dict(context.params)
    given = parsed(render("gateway.enabled=false"))
    different = {name for name in defaults if defaults[name] != given[name]}
    assert different == {"lease_namespace"}
    gateways = parsed(render())
    more = {name for name in given if given[name] != gateways[name]}
    assert more == {"gateways", "xds_address", "gateway_key_file", "gateway_template"}
    assert given["lease_namespace"] == "penstock-system"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["identity=service"], {"identity": "service"}),
        (["tickSeconds=2"], {"tick_seconds": 2.0}),
        (["dryRun=true"], {"dry_run": True}),
        (["log.format=console", "log.level=debug"], {"log_format": "console", "log_level": "debug"}),
        (["fullnameOverride=second"], {"lease_name": "second"}),
        (["prometheus.client=prometheus-api-client"], {"prometheus_client": "prometheus-api-client"}),
        (
            ["prometheus.headers.X-Scope-OrgID=team-a", "prometheus.headers.X-Other=a b"],
            {"headers": (("X-Other", "a b"), ("X-Scope-OrgID", "team-a"))},
        ),
        (
            ["prometheus.matchers.cluster=prod-1", 'prometheus.matchers.a=b: "c"'],
            {"matchers": (("a", 'b: "c"'), ("cluster", "prod-1"))},
        ),
        (["prometheus.bearerTokenFile=/t/token"], {"prometheus_bearer_token_file": "/t/token"}),
        (["prometheus.tls.insecureSkipVerify=true"], {"prometheus_insecure_skip_verify": True}),
        (["prometheus.timeoutSeconds=10"], {"prometheus_timeout": 10.0}),
        (
            ["prometheus.scrapeIntervalSeconds=30", "prometheus.rateWindowSeconds=120"],
            {"scrape_interval": 30.0, "rate_window": 120.0},
        ),
        (
            ["prometheus.labels.pod=kube_pod", "prometheus.labels.service=job"],
            {"pod_label": "kube_pod", "service_label": "job", "namespace_label": "namespace"},
        ),
        (["rbac.scope=namespaces", "rbac.namespaces={prod,dev}"], {"namespaces": ("prod", "dev")}),
        (["rbac.namespaces={prod}"], {"namespaces": ()}),
    ],
)
def test_values_become_flags(render: Render, values: list[str], expected: dict[str, Any]) -> None:
    given = parsed(render(*values))
    assert {name: given[name] for name in expected} == expected


def test_a_token_and_a_ca_are_mounted_where_the_flags_say(render: Render) -> None:
    objects = render(
        "prometheus.bearerTokenSecret.name=reader",
        "prometheus.bearerTokenSecret.key=jwt",
        "prometheus.tls.caConfigMap.name=bundle",
    )
    given, spec = parsed(objects), pod(objects)
    assert given["prometheus_bearer_token_file"] == "/var/run/secrets/prometheus/jwt"
    assert given["prometheus_ca_file"] == "/etc/prometheus-ca/ca.crt"
    assert [each for each in spec["volumes"] if each["name"].startswith("prometheus")] == [
        {"name": "prometheus-token", "secret": {"secretName": "reader"}},
        {
            "name": "prometheus-ca",
            "configMap": {"name": "bundle", "items": [{"key": "ca.crt", "path": "ca.crt"}]},
        },
    ]
    mounts = {each["name"]: each["mountPath"] for each in spec["containers"][0]["volumeMounts"]}
    assert {name: path for name, path in mounts.items() if name.startswith("prometheus")} == {
        "prometheus-token": "/var/run/secrets/prometheus",
        "prometheus-ca": "/etc/prometheus-ca",
    }


def test_a_recording_goes_to_a_volume_that_its_files_do_not_fill(render: Render) -> None:
    assert "record" not in yaml.safe_dump(pod(render()))
    for limit, size in ((16, "20Mi"), (2_000_000, "2500000Mi")):
        objects = render("recording.enabled=true", f"recording.limitMiB={limit}", "gateway.enabled=false")
        given, spec = parsed(objects), pod(objects)
        assert (given["record_directory"], given["record_limit"]) == ("/var/lib/penstock", limit)
        assert spec["containers"][0]["volumeMounts"] == [
            {"name": "records", "mountPath": "/var/lib/penstock"}
        ]
        assert spec["volumes"] == [{"name": "records", "emptyDir": {"sizeLimit": size}}]


def test_a_recording_may_go_to_a_volume_of_the_users(render: Render) -> None:
    claim = "recording.volume.persistentVolumeClaim.claimName=kept"
    assert {"name": "records", "persistentVolumeClaim": {"claimName": "kept"}} in pod(
        render("recording.enabled=true", claim)
    )["volumes"]
    assert "records" not in {each["name"] for each in pod(render(claim))["volumes"]}


def test_a_second_replica_gets_a_disruption_budget_and_another_node(render: Render) -> None:
    alone, two = render(), render("replicas=2")
    assert "PodDisruptionBudget" not in {each["kind"] for each in alone}
    assert "topologySpreadConstraints" not in pod(alone)
    (budget,) = [each for each in two if each["kind"] == "PodDisruptionBudget"]
    assert budget["spec"]["maxUnavailable"] == 1
    assert pod(two)["topologySpreadConstraints"][0]["topologyKey"] == "kubernetes.io/hostname"


def test_the_image_defaults_to_the_charts_version(render: Render) -> None:
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
    assert pod(render())["containers"][0]["image"] == f"penstock:{version}"
    other = render("image.repository=registry.example/penstock", "image.tag=dev")
    assert pod(other)["containers"][0]["image"] == "registry.example/penstock:dev"
