"""The pod of a gateway: Envoy, and the agent that answers for the operator while that is down.

Restricted (no root, no capabilities, read-only root). Only the agent sees the service account's token: the
proxy talks to strangers. On termination Envoy would cut its streams; the hook makes it refuse keep-alive,
waits for them, and only then lets it go.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from penstock.dataplane.envoy.bootstrap import READY_PATH
from penstock.dataplane.envoy.certificates import secret_directory
from penstock.dataplane.envoy.template import GatewayTemplate

GATEWAY: Final = "penstock-gateway"
PLANS: Final = "penstock-gateway-plans"
ADMIN_PORT: Final = 9901  # loopback
STATS_PORT: Final = 9902
AGENT_PORT: Final = 18001  # loopback
BOOTSTRAP_FILE: Final = "bootstrap.json"
PLANS_FILE: Final = "plans.json"
BOOTSTRAP_PATH: Final = "/etc/penstock/bootstrap"
PLANS_PATH: Final = "/etc/penstock/plans"
ACCOUNT_PATH: Final = "/var/run/secrets/kubernetes.io/serviceaccount"
# Beyond the drain: the process itself needs a moment to end.
GRACE_SECONDS: Final = 15

Container = dict[str, Any]


def pod_spec(
    template: GatewayTemplate, *, namespace: str, labels: Mapping[str, str], tls_secrets: Sequence[str]
) -> dict[str, Any]:
    """Return the pods' spec; `labels` select the group's pods."""
    secrets = sorted(set(tls_secrets))
    tls = {f"tls-{number}": secret for number, secret in enumerate(secrets)}
    certificates = [_mount(name, secret_directory(namespace, secret)) for name, secret in tls.items()]
    return {
        **template.pod,
        "serviceAccountName": GATEWAY,
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": template.drain_seconds + GRACE_SECONDS,
        "securityContext": dict(template.pod_security_context),
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",  # a single node still gets both
                "labelSelector": {"matchLabels": dict(labels)},
            }
        ],
        "containers": [_proxy(template, certificates), _agent(template)],
        "volumes": [
            {"name": "bootstrap", "secret": {"secretName": GATEWAY}},
            {"name": "plans", "configMap": {"name": PLANS, "optional": True}},
            {"name": "account", "projected": {"sources": _ACCOUNT_SOURCES}},
            # A Secret that does not exist (yet) must not keep the other services' pods from starting.
            *(
                {"name": name, "secret": {"secretName": secret, "optional": True}}
                for name, secret in tls.items()
            ),
        ],
    }


def _proxy(template: GatewayTemplate, certificates: Sequence[dict[str, Any]]) -> Container:
    ready = {"httpGet": {"path": READY_PATH, "port": "stats"}}
    return _container(template, "envoy", template.resources) | {
        "command": [
            "envoy",
            "-c",
            f"{BOOTSTRAP_PATH}/{BOOTSTRAP_FILE}",
            "--service-node",
            "$(POD_NAME)",
            "--concurrency",
            str(template.concurrency),
            "--disable-hot-restart",
            "--log-level",
            "warning",
        ],
        "ports": [{"name": "stats", "containerPort": STATS_PORT, "protocol": "TCP"}],
        # Its ports open when the first configuration is there, or 15 s after nobody gave any.
        "startupProbe": ready | {"periodSeconds": 1, "failureThreshold": 90},
        "readinessProbe": ready | {"periodSeconds": 2, "timeoutSeconds": 2, "failureThreshold": 3},
        # Not by readiness: a draining proxy is alive.
        "livenessProbe": {"tcpSocket": {"port": "stats"}, "periodSeconds": 10, "failureThreshold": 6},
        "volumeMounts": [_mount("bootstrap", BOOTSTRAP_PATH), *certificates],
    }


def _agent(template: GatewayTemplate) -> Container:
    return _container(template, "agent", template.agent_resources) | {
        "command": [
            "penstock",
            "gateway",
            f"--plans={PLANS_PATH}/{PLANS_FILE}",
            f"--listen=127.0.0.1:{AGENT_PORT}",
            f"--gateways={template.replicas}",
        ],
        "volumeMounts": [_mount("plans", PLANS_PATH), _mount("account", ACCOUNT_PATH)],
    }


def _container(template: GatewayTemplate, name: str, resources: Mapping[str, Any]) -> Container:
    drain = ["penstock", "drain", f"--admin-port={ADMIN_PORT}", f"--deadline={template.drain_seconds}s"]
    return {
        "name": name,
        "image": template.image,
        "imagePullPolicy": template.image_pull_policy,
        "env": [{"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
        "resources": dict(resources),
        # Both wait: the proxy asks the agent for endpoints for as long as it has streams.
        "lifecycle": {"preStop": {"exec": {"command": drain}}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }


def _mount(name: str, path: str) -> dict[str, Any]:
    return {"name": name, "mountPath": path, "readOnly": True}


_ACCOUNT_SOURCES: Final = [
    {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
    {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
    {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
]
