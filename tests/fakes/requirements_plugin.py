"""Says at the end of a run which groups of tests the machine could not run and why.

A group is a marker: api, prometheus, kind. `PENSTOCK_REQUIRE=kind,api` turns a skipped test of these
groups, or a group without any test, into a failure: CI uses it so that a broken preparation of the
machine cannot pass for a green run. It has an exit code of its own, which no second run of what
failed (``--last-failed``, of which no whole group is asked) can mend. A test without such a marker goes
by the name of its directory, which cannot be required. `PENSTOCK_SKIPPED=FILE` gets what was said too,
one line each: `make test` runs several parts and says it once, after them.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path, PurePosixPath

import pytest

GROUPS = ("api", "prometheus", "kind")
VARIABLE = "PENSTOCK_REQUIRE"
LIST_VARIABLE = "PENSTOCK_SKIPPED"
UNMET = 6  # pytest itself uses 0 to 5


class Groups:
    """What became of the tests of each group."""

    def __init__(self, required: frozenset[str], *, again: bool = False) -> None:
        self.required, self.again = required, again
        self.ran: Counter[str] = Counter()
        self.skipped: dict[str, Counter[str]] = {group: Counter() for group in GROUPS}

    def finished(self, report: pytest.TestReport) -> None:
        """Count a test once: its call, or the set-up that skipped it."""
        for group in [name for name in GROUPS if name in report.keywords] or [_directory(report)]:
            if report.skipped and not hasattr(report, "wasxfail"):
                self.skipped.setdefault(group, Counter())[_reason(report)] += 1
            elif report.when == "call":
                self.ran[group] += 1

    def skips(self) -> list[str]:
        """Return one line for each reason of each group."""
        return [
            f"{group}: {_tests(count)} skipped: {reason}"
            for group, reasons in self.skipped.items()
            for reason, count in reasons.most_common()
        ]

    def shortfalls(self) -> list[str]:
        """Return one sentence for each required group that did not run in full."""
        found = []
        for group in GROUPS:
            if group not in self.required:
                continue
            if skipped := sum(self.skipped[group].values()):
                found.append(f"{group}: {_tests(skipped)} skipped, but {VARIABLE} asks for all of them")
            elif not self.ran[group] and not self.again:
                found.append(f"{group}: no test ran, but {VARIABLE} asks for this group")
        return found


def required_groups(value: str) -> frozenset[str]:
    """Parse PENSTOCK_REQUIRE; an unknown group is an error, else a typing slip would require nothing."""
    names = frozenset(name.strip() for name in value.split(",") if name.strip())
    if unknown := names - set(GROUPS):
        raise pytest.UsageError(
            f"{VARIABLE}={value}: unknown group {', '.join(sorted(unknown))}; there are {', '.join(GROUPS)}"
        )
    return names


KEY = pytest.StashKey[Groups]()
LIST_KEY = pytest.StashKey[str]()


def pytest_configure(config: pytest.Config) -> None:
    """Read the environment before anything is collected."""
    groups = Groups(required_groups(os.environ.get(VARIABLE, "")), again=getattr(config.option, "lf", False))
    config.stash[KEY] = groups
    # Taken out: a test that runs a pytest of its own would add what that one skips.
    config.stash[LIST_KEY] = os.environ.pop(LIST_VARIABLE, "")
    config.pluginmanager.register(_Watch(groups), "penstock-requirements")


class _Watch:
    def __init__(self, groups: Groups) -> None:
        self._groups = groups

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._groups.finished(report)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Fail a run without what was required, also one in which something else failed."""
    if hasattr(session.config, "workerinput"):  # of pytest-xdist: it ran a part, and its controller knows all
        return
    done = exitstatus in (
        pytest.ExitCode.OK,
        pytest.ExitCode.TESTS_FAILED,
        pytest.ExitCode.NO_TESTS_COLLECTED,
    )
    if done and not session.config.option.collectonly and session.config.stash[KEY].shortfalls():
        session.exitstatus = UNMET


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the groups that were skipped, their reasons, and what was required in vain."""
    groups = config.stash[KEY]
    skips = groups.skips()
    if skips:
        terminalreporter.section("not run on this machine")
        for line in skips:
            terminalreporter.line(line)
    failures = [] if config.option.collectonly else groups.shortfalls()
    failures = [f"FAILED requirement: {line}" for line in failures]
    for line in failures:
        terminalreporter.line(line, red=True)
    if config.stash[LIST_KEY]:
        with Path(config.stash[LIST_KEY]).open("a") as file:
            file.writelines(f"{line}\n" for line in skips + failures)


def _reason(report: pytest.TestReport) -> str:
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return " ".join(text.removeprefix("Skipped: ").split())


def _directory(report: pytest.TestReport) -> str:
    path = PurePosixPath(report.nodeid.partition("::")[0])
    return path.parent.name or path.stem


def _tests(count: int) -> str:
    return f"{count} test" if count == 1 else f"{count} tests"
