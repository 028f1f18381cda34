"""What runs on this machine's loopback is reached past the proxies that the environment names."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from penstock.sandbox.apiserver import ApiServer
from penstock.sandbox.loopback import exempt_loopback
from penstock.sandbox.prometheus import PrometheusProcess

# Answers every request, as Prometheus answers whether it is ready.
READY = """
import http.server, sys
(listen,) = (each for each in sys.argv if each.startswith("--web.listen-address="))
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
print("the stand-in speaks", flush=True)
http.server.HTTPServer(("127.0.0.1", int(listen.rpartition(":")[2])), Handler).serve_forever()
"""


@pytest.fixture
def dead_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every request goes to a proxy that is not there, loopback included."""
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def stand_in(tmp_path: Path) -> Path:
    """A program that is ready at once where Prometheus would be."""
    binary = tmp_path / "prometheus"
    binary.write_text(f"#!{sys.executable}\n{READY}")
    binary.chmod(0o755)
    return binary


@pytest.mark.usefixtures("dead_proxy")
def test_prometheus_is_ready_whatever_the_proxy_says(stand_in: Path) -> None:
    with PrometheusProcess(binary=stand_in) as process:
        assert process.running


@pytest.mark.api
def test_the_api_server_answers_whatever_the_proxy_says(apiserver: ApiServer, dead_proxy: None) -> None:
    assert apiserver.request("GET", "/readyz")[0] == 200


def test_the_log_of_prometheus_is_where_it_is_wanted(stand_in: Path, tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    with PrometheusProcess(binary=stand_in, log_directory=logs) as process:
        assert process.log.startswith("the stand-in speaks\n")
        assert (logs / "prometheus.log").read_text() == process.log


@pytest.mark.parametrize(
    ("case", "before", "after"),
    [
        ("nothing was exempt", {}, "127.0.0.1,localhost"),
        ("the user's hosts stay", {"no_proxy": "corp, 10.0.0.0/8"}, "corp,10.0.0.0/8,127.0.0.1,localhost"),
        ("whichever spelling they use", {"NO_PROXY": "corp"}, "corp,127.0.0.1,localhost"),
        ("nothing is listed twice", {"no_proxy": "localhost"}, "localhost,127.0.0.1"),
    ],
)
def test_loopback_is_exempt_in_both_spellings(case: str, before: dict[str, str], after: str) -> None:
    environment = {**before, "http_proxy": "http://proxy:3128"}
    exempt_loopback(environment)
    assert environment == {
        "http_proxy": "http://proxy:3128",
        "no_proxy": after,
        "NO_PROXY": after,
    }, case


def test_a_star_exempts_everything_and_only_where_it_stands_alone() -> None:
    environment = {"no_proxy": "*"}
    exempt_loopback(environment)
    assert environment == {"no_proxy": "*"}


def test_two_lists_stay_two() -> None:
    environment = {"no_proxy": "a", "NO_PROXY": "b"}
    exempt_loopback(environment)
    assert environment == {"no_proxy": "a,127.0.0.1,localhost", "NO_PROXY": "b,127.0.0.1,localhost"}
