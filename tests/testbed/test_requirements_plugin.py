"""A run must not look green when CI asked for tests that the machine skipped."""

from __future__ import annotations

import pytest

from fakes.requirements_plugin import UNMET

pytest_plugins = ["pytester"]

MARKED = """
import pytest

@pytest.mark.kind
def test_cluster():
    pytest.skip("no Docker engine")

@pytest.mark.kind
def test_other_cluster():
    pytest.skip("no Docker engine")

@pytest.mark.api
def test_api_server():
    pass
"""


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A small suite of its own, run in a process of its own."""
    pytester.makeini("[pytest]\nmarkers =\n  api: a\n  kind: k\n  prometheus: p\n")
    pytester.makepyfile(MARKED)
    monkeypatch.delenv("PENSTOCK_REQUIRE", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(pytest_tests_directory()))
    return pytester


def pytest_tests_directory() -> str:
    """The directory that makes `fakes` importable."""
    import fakes.requirements_plugin as plugin

    return plugin.__file__.rsplit("/", 2)[0]


def run(suite: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    return suite.runpytest_subprocess("-p", "fakes.requirements_plugin", "-p", "no:randomly", *arguments)


def test_without_requirements_skips_are_named_once_per_reason_and_pass(suite: pytest.Pytester) -> None:
    result = run(suite)
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["*not run on this machine*", "kind: 2 tests skipped: no Docker engine"])
    assert "FAILED requirement" not in result.stdout.str()


@pytest.mark.parametrize(
    ("required", "sentence"),
    [
        ("kind", "kind: 2 tests skipped, but PENSTOCK_REQUIRE asks for all of them"),
        ("api, kind", "kind: 2 tests skipped, but PENSTOCK_REQUIRE asks for all of them"),
        ("prometheus", "prometheus: no test ran, but PENSTOCK_REQUIRE asks for this group"),
    ],
)
def test_a_required_group_that_did_not_run_fails_the_run(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, required: str, sentence: str
) -> None:
    monkeypatch.setenv("PENSTOCK_REQUIRE", required)
    result = run(suite)
    assert result.ret == UNMET
    result.stdout.fnmatch_lines([f"FAILED requirement: {sentence}"])


def test_a_required_group_that_ran_passes(suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_REQUIRE", "api")
    assert run(suite).ret == pytest.ExitCode.OK


def test_a_selection_that_leaves_out_the_required_group_fails(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PENSTOCK_REQUIRE", "api")
    assert run(suite, "-k", "cluster").ret == UNMET


FAILS_ONCE = """
import pathlib
import pytest

@pytest.mark.api
def test_api_server():
    seen = pathlib.Path("seen")
    again = seen.exists()
    seen.touch()
    assert again
"""


def test_what_failed_may_run_again_without_the_other_groups(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite.makepyfile(test_once=FAILS_ONCE, test_other="import pytest\n@pytest.mark.kind\ndef test_it(): pass")
    monkeypatch.setenv("PENSTOCK_REQUIRE", "api,kind")
    files = ("test_once.py", "test_other.py")
    assert run(suite, *files).ret == pytest.ExitCode.TESTS_FAILED
    assert run(suite, "--last-failed", *files).ret == pytest.ExitCode.OK


def test_a_skip_beside_a_failure_is_not_forgotten_by_a_second_run(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite.makepyfile(test_once=FAILS_ONCE)
    monkeypatch.setenv("PENSTOCK_REQUIRE", "kind")
    assert run(suite).ret == UNMET


HELMLESS = """
import pytest

@pytest.mark.parametrize("value", [1, 2])
def test_values(value):
    pytest.skip("no helm:\\n  run testbed/prepare chart")
"""


def test_a_skip_without_a_group_goes_by_its_directory(suite: pytest.Pytester) -> None:
    directory = suite.mkdir("chart")
    (directory / "test_values.py").write_text(HELMLESS)
    result = run(suite)
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(
        [
            "*not run on this machine*",
            "kind: 2 tests skipped: no Docker engine",
            "chart: 2 tests skipped: no helm: run testbed/prepare chart",
        ]
    )


def test_several_runs_add_what_they_said_to_one_list(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    list_file = suite.path / "skipped"
    monkeypatch.setenv("PENSTOCK_SKIPPED", str(list_file))
    run(suite, "-k", "other_cluster")
    monkeypatch.setenv("PENSTOCK_REQUIRE", "kind")
    assert run(suite, "--numprocesses", "2").ret == UNMET
    assert list_file.read_text().splitlines() == [
        "kind: 1 test skipped: no Docker engine",
        "kind: 2 tests skipped: no Docker engine",
        "FAILED requirement: kind: 2 tests skipped, but PENSTOCK_REQUIRE asks for all of them",
    ]


def test_a_pytest_within_a_test_adds_nothing_to_the_list(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = suite.mkdir("inner") / "inner_suite.py"
    inner.write_text(MARKED)
    command = ["-m", "pytest", "-p", "fakes.requirements_plugin", str(inner)]
    suite.makepyfile(
        f"import subprocess, sys\ndef test_it(): subprocess.run([sys.executable, *{command!r}], check=True)"
    )
    list_file = suite.path / "skipped"
    monkeypatch.setenv("PENSTOCK_SKIPPED", str(list_file))
    assert run(suite).ret == pytest.ExitCode.OK
    assert list_file.read_text() == ""


def test_an_unknown_group_is_refused(suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_REQUIRE", "kindd")
    result = run(suite)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["*PENSTOCK_REQUIRE=kindd: unknown group kindd; there are api, prometheus, kind*"]
    )
