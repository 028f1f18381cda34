"""A server program as a child of this process, which it never outlives.

The child holds one end of a pipe: when the parent ends without a word, kill -9 included, the pipe
closes and the child is told to end.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

STOP_WITHIN_SECONDS = 10.0
# The shell becomes the program (same pid); its background child waits for the pipe to close. An API
# server whose etcd went first may take a minute to end, so it gets five seconds.
_TETHER = """
exec 3<&0 </dev/null
{
  read -r goodbye <&3 || {
    kill -TERM $$
    for second in 1 2 3 4 5; do sleep 1; kill -0 $$ || exit; done
    kill -KILL $$
  }
} 2>/dev/null &
exec 3<&-
exec "$@"
"""


class ChildProcess:
    """A running program; its output goes to `log`."""

    def __init__(self, command: Sequence[str], log: Path) -> None:
        self.log = log
        waiting, self._tether = os.pipe()
        try:
            with log.open("ab") as output:
                self._process = subprocess.Popen(
                    ["/bin/sh", "-c", _TETHER, Path(command[0]).name, *command],
                    stdin=waiting,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,  # Ctrl-C is for the parent, who stops this in order
                )
        finally:
            os.close(waiting)

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it lives."""
        return self._process.poll() is None

    def last_words(self, characters: int = 600) -> str:
        """Return the end of what it said."""
        return self.log.read_text(errors="replace")[-characters:].strip()

    def stop(self) -> None:
        """End it: asked first, killed after ten seconds."""
        if self._tether < 0:
            return
        if self.running:
            self._process.terminate()
            try:
                self._process.wait(STOP_WITHIN_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        # A word first, so that the waiting shell does not signal a process id that may be reused.
        with contextlib.suppress(OSError):
            os.write(self._tether, b"goodbye\n")
        os.close(self._tether)
        self._tether = -1


_LOCAL_PORTS = Path("/proc/sys/net/ipv4/ip_local_port_range")
_FIRST_PORT = 10_240
_given: set[int] = set()


def free_port() -> int:
    """Return a port of 127.0.0.1 that is free now and was not given before.

    It is below those that the kernel hands out, so that no client and no listener on port 0 of another
    process takes it before its own does. Envoy's listeners share a port without a word: a route that had the
    port of the statistics answered 404.
    """
    handed_out = int(_LOCAL_PORTS.read_text().split()[0]) if _LOCAL_PORTS.exists() else 32_768
    # The system's random numbers: processes that seed theirs alike would choose alike.
    below = (_FIRST_PORT + secrets.randbelow(handed_out - _FIRST_PORT) for _ in range(100))
    for port in below if handed_out - _FIRST_PORT >= 1000 else ():
        if port not in _given and _bindable(port):
            _given.add(port)
            return port
    return _any_port()


def _bindable(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _any_port() -> int:
    """Where the kernel hands out nearly all ports, one of them, which another process may take."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        if port not in _given:
            _given.add(port)
            return port
