"""Files that tell others where the sandbox's pods are: Prometheus' file_sd, and URLs for the load.

Written whole and renamed into place, only when their content changes, so that nobody reads half a file.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import orjson

from penstock.sandbox.local_pod import LocalPod


@dataclass(slots=True)
class DiscoveryFiles:
    """`targets.json` for Prometheus and `<service>.urls` for `penstock load --url-file`."""

    directory: Path
    namespace: str
    _written: dict[Path, bytes] = field(default_factory=dict)

    @property
    def targets_file(self) -> Path:
        """File for ``file_sd_configs``."""
        return self.directory / "targets.json"

    def urls_file(self, service: str) -> Path:
        """File with the URLs of the pods that a Service would send to."""
        return self.directory / f"{service}.urls"

    def write(self, pods: Iterable[LocalPod], services_of: Mapping[str, list[str]]) -> None:
        """Write what changed. `services_of` names the Services of each pod (by name)."""
        groups = []
        urls: dict[str, list[str]] = {name: [] for names in services_of.values() for name in names}
        for path in self._written:
            if path.suffix == ".urls":
                urls.setdefault(path.stem, [])  # all its pods are gone: nobody is there
        for pod in sorted(pods, key=lambda pod: pod.name):
            services = services_of.get(pod.name, [])
            if pod.ready:
                for service in services:
                    urls[service].append(pod.url)
            # Scraped from ready to the end of the process: a draining pod still reports its last requests.
            if pod.ready or (pod.terminating and pod.running):
                labels = {"namespace": self.namespace, "pod": pod.name, "container": pod.container_name}
                if services:
                    labels["service"] = services[0]
                groups.append({"targets": [urlsplit(pod.url).netloc], "labels": labels})
        self._put(self.targets_file, orjson.dumps(groups, option=orjson.OPT_INDENT_2))
        for service, lines in urls.items():
            self._put(self.urls_file(service), "".join(f"{line}\n" for line in lines).encode())

    def _put(self, path: Path, content: bytes) -> None:
        if self._written.get(path) == content:
            return
        self.directory.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        temporary.write_bytes(content)
        temporary.replace(path)
        self._written[path] = content
