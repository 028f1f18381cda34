"""A real Prometheus as a child process on the loopback interface, for tests and the demo.

The binary is the one on the PATH, else it is unpacked (not installed: no service is started) from the
distribution's package into ``${XDG_CACHE_HOME:-~/.cache}/penstock``. The child dies with its parent
whatever ends that, kill -9 included: it holds one end of a pipe. Targets can be replaced at run time;
Prometheus looks at them every 5 s at most (a constant of its discovery manager).
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import yaml

from penstock.sandbox.child_process import free_port
from penstock.sandbox.loopback import open_loopback

READY_WITHIN_SECONDS = 30.0
STOP_WITHIN_SECONDS = 10.0
START_ATTEMPTS = 3  # another process may take the free port between looking and binding
# The shell becomes Prometheus (same pid); its background child waits for the parent's end of the
# pipe to close without a word, which happens however the parent ends.
TETHER = 'exec 3<&0 </dev/null; { read -r goodbye <&3 || kill -TERM $$; } & exec 3<&-; exec "$@"'

Notify = Callable[[str], None]


class PrometheusUnavailableError(Exception):
    """Prometheus cannot be found, unpacked or started; the message says what to do."""


@dataclass(frozen=True, slots=True)
class ScrapeTarget:
    """One exporter: ``127.0.0.1:8000`` and the labels that its series get (namespace, pod, ...)."""

    address: str
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class PrometheusProcess:
    """A running Prometheus; use it as a context manager. Blocking: call it from a thread in async code."""

    scrape_interval_seconds: float = 1.0
    directory: Path | None = None  # default: a temporary one, removed at the end
    binary: Path | None = None  # default: found, else unpacked
    lookback_seconds: float = 300.0
    extra_arguments: tuple[str, ...] = ()
    port: int = 0
    log_directory: Path | None = None  # default: `directory`
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)
    _tether: int = field(default=-1, init=False)
    _temporary: str = field(default="", init=False)
    _closed: threading.Event = field(default_factory=threading.Event, init=False)
    _changing: threading.Lock = field(default_factory=threading.Lock, init=False)  # start or close, not both

    @property
    def url(self) -> str:
        """Root of the API."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> str:
        """What Prometheus logged so far."""
        path = self._log_file()
        return path.read_text(errors="replace") if path.exists() else ""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        """Start, or start again on the same port with the same data; return when queries are answered.

        Raises `PrometheusUnavailableError`, also at once when another thread calls `close` meanwhile.
        """
        with self._changing:
            if not self.running:
                self._start()

    def stop(self) -> None:
        """End the process and keep its data, so that it can be started again."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(STOP_WITHIN_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        # A word first, so that the waiting shell does not signal a process id that may be reused.
        with contextlib.suppress(OSError):
            os.write(self._tether, b"goodbye\n")
        os.close(self._tether)
        self._tether = -1

    def close(self) -> None:
        """End the process for good and remove its temporary directory."""
        self._closed.set()
        with self._changing:
            self.stop()
            if self._temporary:
                shutil.rmtree(self._temporary, ignore_errors=True)
                self._temporary, self.directory = "", None

    def set_targets(self, targets: Iterable[ScrapeTarget]) -> None:
        """Replace what is scraped; takes effect within about 5 s."""
        groups = [{"targets": [each.address], "labels": dict(each.labels)} for each in targets]
        home = self._home()
        partial = home / "targets.json.partial"
        partial.write_text(json.dumps(groups))
        partial.replace(home / "targets.json")

    def _start(self) -> None:
        self.binary = self.binary or obtain_prometheus()
        home = self._home()
        self._write_configuration(home)
        for _ in range(START_ATTEMPTS):
            chosen = self.port or free_port()
            self._spawn(home, chosen)
            if self._wait_until_ready(chosen):
                self.port = chosen
                return
            self.stop()
            if "address already in use" not in self.log or self.port:
                break
        raise PrometheusUnavailableError(f"Prometheus did not start: {_last_line(self.log)}")

    def _home(self) -> Path:
        if self.directory is None:
            self._temporary = tempfile.mkdtemp(prefix="penstock-prometheus-")
            self.directory = Path(self._temporary)
        return self.directory

    def _log_file(self) -> Path:
        return (self.log_directory or self._home()) / "prometheus.log"

    def _write_configuration(self, home: Path) -> None:
        interval = f"{round(self.scrape_interval_seconds * 1000)}ms"
        configuration = {
            "global": {"scrape_interval": interval, "scrape_timeout": interval},
            "scrape_configs": [
                {
                    "job_name": "engines",
                    "file_sd_configs": [{"files": [str(home / "targets.json")], "refresh_interval": "1s"}],
                }
            ],
        }
        (home / "prometheus.yml").write_text(yaml.safe_dump(configuration))
        if not (home / "targets.json").exists():
            self.set_targets(())

    def _spawn(self, home: Path, port: int) -> None:
        command = [
            str(self.binary),
            f"--config.file={home / 'prometheus.yml'}",
            f"--storage.tsdb.path={home / 'data'}",
            "--storage.tsdb.retention.time=6h",
            f"--web.listen-address=127.0.0.1:{port}",
            f"--query.lookback-delta={round(self.lookback_seconds * 1000)}ms",
            "--log.level=warn",
            *self.extra_arguments,
        ]
        waiting, self._tether = os.pipe()
        try:
            with self._log_file().open("ab") as log:
                self._process = subprocess.Popen(
                    ["/bin/sh", "-c", TETHER, "prometheus", *command],
                    stdin=waiting,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,  # Ctrl-C is for the parent, who stops this in order
                )
        finally:
            os.close(waiting)

    def _wait_until_ready(self, port: int) -> bool:
        deadline = time.monotonic() + READY_WITHIN_SECONDS
        while time.monotonic() < deadline and self.running and not self._closed.is_set():
            try:
                with open_loopback(f"http://127.0.0.1:{port}/-/ready", timeout_seconds=1) as answer:
                    if answer.status == 200:
                        return self.running
            except OSError:  # urllib's errors are too
                pass
            time.sleep(0.05)
        return False


def obtain_prometheus(notify: Notify = lambda _: None, stop: threading.Event | None = None) -> Path:
    """Return the Prometheus binary: from the PATH, the cache, or the distribution's package.

    `notify` is told of what takes longer than a moment. Raises `PrometheusUnavailableError`, also after
    the step during which another thread set `stop`.
    """
    found = shutil.which("prometheus")
    if found:
        return Path(found)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "penstock" / "prometheus"
    binary = cache / "prometheus"
    if binary.exists():
        return binary
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        raise PrometheusUnavailableError(
            "no prometheus on the PATH, and no Debian packages to unpack it from: "
            "put the prometheus binary of any release on the PATH"
        )
    notify("unpacking Prometheus from the distribution's package (20 MB, no service is installed)")
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix="unpack-") as temporary:
        unpacked = _unpack_package(_Steps(Path(temporary), stop or threading.Event()), notify)
        unpacked.replace(binary)
    return binary


def _unpack_package(steps: _Steps, notify: Notify) -> Path:
    """Download and unpack the package; package lists are fetched only if the download fails."""
    download = ["apt-get", "download", "prometheus"]
    if steps.run(download).returncode != 0:
        notify("fetching the distribution's package lists")
        updated = steps.run(["apt-get", "update"])
        fetched = steps.run(download)
        if fetched.returncode != 0:
            reason = _last_line(fetched.stderr) or _last_line(updated.stderr)
            is_root = os.geteuid() == 0
            who = "" if is_root else "; package lists can only be fetched by root: run sudo apt-get update"
            raise PrometheusUnavailableError(
                f"cannot download the prometheus package: {reason}{who}, "
                "or put the prometheus binary of any release on the PATH"
            )
    packages = list(steps.directory.glob("prometheus_*.deb"))
    if not packages or steps.run(["dpkg-deb", "-x", packages[0].name, "."]).returncode != 0:
        raise PrometheusUnavailableError("the prometheus package cannot be unpacked: is the disk full?")
    unpacked = steps.directory / "usr" / "bin" / "prometheus"
    works = steps.run([str(unpacked), "--version"])
    if works.returncode != 0:
        raise PrometheusUnavailableError(f"the unpacked prometheus does not run: {_last_line(works.stderr)}")
    return unpacked


@dataclass(frozen=True, slots=True)
class _Steps:
    """Runs one program after another in `directory`."""

    directory: Path
    stop: threading.Event

    def run(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        """Run a program; raises `PrometheusUnavailableError` where no other may follow.

        The terminal's Ctrl-C ends our children before it is heard here, so a signal's victim counts too.
        """
        try:
            done = subprocess.run(
                command,
                cwd=self.directory,
                capture_output=True,
                text=True,
                timeout=180,
                check=False,
                stdin=subprocess.DEVNULL,
            )
        except subprocess.TimeoutExpired:
            done = subprocess.CompletedProcess(command, 124, "", f"{command[0]} took more than 180 s")
        name = Path(command[0]).name
        if done.returncode < 0:
            raise PrometheusUnavailableError(f"{name} was ended by signal {-done.returncode}")
        if self.stop.is_set():
            raise PrometheusUnavailableError(f"stopped after {name}")
        return done


def _last_line(text: str) -> str:
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"
