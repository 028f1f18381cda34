"""SDS: where the gateway pods have a TLS Secret mounted. The operator never reads it.

Envoy watches the directory: a renewed certificate is taken up without a restart, which a certificate
named in the listener itself is not.
"""

from __future__ import annotations

from typing import Any, Final

from penstock.dataplane.envoy.names import SDS, secret_name

MOUNTED_AT: Final = "/etc/penstock/tls"


def secret_directory(namespace: str, secret: str, *, mounted_at: str = MOUNTED_AT) -> str:
    """Return where the gateway's pods must mount a Secret of type ``kubernetes.io/tls``."""
    return f"{mounted_at}/{secret_name(namespace, secret)}"


def tls_secret(namespace: str, secret: str, *, mounted_at: str = MOUNTED_AT) -> dict[str, Any]:
    """Return the SDS resource that names the mounted files."""
    directory = secret_directory(namespace, secret, mounted_at=mounted_at)
    return {
        "@type": SDS,
        "name": secret_name(namespace, secret),
        "tls_certificate": {
            "certificate_chain": {"filename": f"{directory}/tls.crt"},
            "private_key": {"filename": f"{directory}/tls.key"},
            "watched_directory": {"path": directory},
        },
    }
