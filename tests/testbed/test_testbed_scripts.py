"""The testbed on machines unlike this one: images that can be pulled, no Go, no root's tools.

Docker and kind are small scripts here that answer from files and write down what they were asked.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

TESTBED = Path(__file__).resolve().parents[2] / "testbed"
BUILT = "kindest/node:v1.34.4"
PULLED = "kindest/node:v1.34.0@sha256:7416a61b42b1662ca6ca89f02028ac133a309a2a30ba309614e8ec94d976dc5a"
# What the scripts may use of a machine that has only the essential packages.
ESSENTIAL = """
bash awk basename cat chmod cp cut date dirname env expr find flock grep head id install ls mkdir mktemp
mv nohup printf rm rmdir sed seq setsid sh sleep sort tail tar test timeout touch tr true uname wc
"""

DOCKER = """#!/bin/bash
echo "docker $*" >>"$MACHINE/calls"
case "$1 $2" in
  "info "*) exit 0 ;;
  "image inspect") for last; do :; done; grep -qxF -- "$last" "$MACHINE/images" && echo "sha256:$last" ;;
  "pull -q") grep -qxF -- "$3" "$MACHINE/registry" && echo "$3" >>"$MACHINE/images" ;;
  "run --rm") grep -qxF -- "$5" "$MACHINE/with-network" ;;
  *) exit 0 ;;
esac
"""
KIND = """#!/bin/bash
echo "kind $*" >>"$MACHINE/calls"
[ "$1 $2" != "create cluster" ] || cat >"$MACHINE/cluster.yaml"
"""


@dataclass(frozen=True, slots=True)
class Machine:
    """A directory with a PATH, a Docker engine's images and a registry's."""

    root: Path

    def has(self, *programs: str) -> None:
        """Put programs on the PATH that do nothing."""
        for name in programs:
            self.script(name, "#!/bin/bash\nexit 0\n")

    def script(self, name: str, text: str) -> None:
        path = self.root / "path" / name
        path.write_text(text)
        path.chmod(0o755)

    def write(self, name: str, *lines: str) -> None:
        (self.root / name).write_text("".join(f"{line}\n" for line in lines))

    def calls(self, program: str) -> list[str]:
        lines = (self.root / "calls").read_text().splitlines()
        return [line.removeprefix(f"{program} ") for line in lines if line.startswith(f"{program} ")]

    def run(self, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": str(self.root / "path"),
            "HOME": str(self.root),
            "CACHE": str(self.root / "cache"),
            "MACHINE": str(self.root),
            "INOTIFY": str(self.root / "max_user_instances"),
        }
        return subprocess.run(
            [str(TESTBED / script), *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
            stdin=subprocess.DEVNULL,
        )


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    made = Machine(tmp_path)
    (tmp_path / "path").mkdir()
    for name in ESSENTIAL.split():
        if found := shutil.which(name):
            (tmp_path / "path" / name).symlink_to(found)
    made.script("docker", DOCKER)
    made.script("kind", KIND)
    made.has("kubectl")
    for name in ("calls", "images", "registry", "with-network"):
        made.write(name)
    return made


def test_a_node_image_that_is_there_is_neither_pulled_nor_built(machine: Machine) -> None:
    machine.write("images", BUILT)
    machine.write("registry", PULLED)
    done = machine.run("node-image")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{BUILT}\n", "")
    assert not [call for call in machine.calls("docker") if call.startswith(("pull", "build"))]


def test_where_images_can_be_pulled_the_node_is_pulled_and_nothing_is_built(machine: Machine) -> None:
    machine.write("registry", PULLED)
    done = machine.run("node-image")
    assert (done.returncode, done.stdout) == (0, f"{PULLED}\n")
    assert done.stderr == "node-image: pulling kindest/node:v1.34.0\n"
    assert not [call for call in machine.calls("docker") if call.startswith("build")]


def test_where_images_can_be_pulled_the_base_is_pulled(machine: Machine) -> None:
    machine.write("registry", "debian:bookworm-slim")
    done = machine.run("base-image")
    assert (done.returncode, done.stderr) == (0, "base-image: pulling debian:bookworm-slim\n")


def test_without_a_registry_and_go_the_node_names_what_is_missing(machine: Machine) -> None:
    machine.write("images", "debian:bookworm-slim")
    done = machine.run("node-image")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "node-image: kindest/node:v1.34.0 cannot be pulled, and there is no Go 1.24 or later to build"
        " kindest/node:v1.34.4 from source"
    )


@pytest.mark.parametrize(
    ("image", "network", "disabled"),
    [(PULLED, "brings its own", "false"), (BUILT, "", "true")],
)
def test_kinds_network_is_switched_off_only_for_nodes_that_have_a_static_one(
    machine: Machine, image: str, network: str, disabled: str
) -> None:
    machine.write("images", image, "penstock:dev")
    machine.write("with-network", *([image] if network else []))
    done = machine.run("kind-up", "trial", "penstock:dev")
    assert done.returncode == 0, done.stderr
    assert f"disableDefaultCNI: {disabled}" in (machine.root / "cluster.yaml").read_text()
    create, load = [call for call in machine.calls("kind") if call.startswith(("create", "load"))]
    assert f"--name trial --image {image} " in create
    assert load.startswith("load image-archive -q --name trial /")
    [saved] = [call for call in machine.calls("docker") if call.startswith("save --platform")]
    assert saved.endswith(" penstock:dev")
    assert not Path(load.split()[-1]).exists()


def test_a_cluster_gets_no_image_that_was_not_built(machine: Machine) -> None:
    machine.write("images", BUILT)
    done = machine.run("kind-up", "trial", "penstock:dev")
    assert done.returncode == 1
    assert done.stderr.endswith("kind-up: no image penstock:dev: run testbed/build-image first\n")


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (
            "128",
            "512",
            "kind-up: raised fs.inotify.max_user_instances to 512 until the machine starts again\n",
        ),
        ("512", "512", ""),
        ("8192", "8192", ""),
    ],
)
def test_a_fifth_cluster_finds_the_inotify_instances_it_needs(
    machine: Machine, before: str, after: str, said: str
) -> None:
    machine.write("images", BUILT, "penstock:dev")
    machine.write("max_user_instances", before)
    done = machine.run("kind-up", "trial", "penstock:dev")
    assert done.returncode == 0, done.stderr
    assert (machine.root / "max_user_instances").read_text().strip() == after
    assert [line for line in done.stderr.splitlines(True) if "inotify" in line] == ([said] if said else [])


def test_a_cluster_without_dns_says_what_its_network_said_and_what_to_do(machine: Machine) -> None:
    machine.write("images", BUILT, "penstock:dev")
    machine.script(
        "kubectl",
        '#!/bin/bash\ncase "$*" in *" wait "*) exit 1 ;; *" logs "*) echo "too many open files" ;; esac\n',
    )
    done = machine.run("kind-up", "trial", "penstock:dev")
    assert done.returncode == 1
    assert done.stderr.endswith(
        "too many open files\n"
        'kind-up: the cluster trial has no DNS after 120 s. If a line above says "too many open files":'
        " end other clusters (kind get clusters; testbed/kind-down NAME), or as root:"
        " sysctl fs.inotify.max_user_instances=512\n"
    )


def test_a_cluster_needs_a_name(machine: Machine) -> None:
    for script in ("kind-up", "kind-down"):
        done = machine.run(script)
        assert done.returncode != 0
        assert f"usage: testbed/{script} NAME" in done.stderr


def test_binaries_on_the_path_are_taken_as_they_are(machine: Machine) -> None:
    machine.has("etcd", "kube-apiserver", "helm")
    done = machine.run("binaries")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_node_is_not_made_of_the_machines_own_binaries(machine: Machine) -> None:
    machine.has("kubelet")
    done = machine.run("binaries", "--own", "kubelet")
    assert done.returncode == 1
    assert done.stderr.startswith("binaries: missing: kubelet; ")


def test_unknown_names_are_refused(machine: Machine) -> None:
    machine.has("go")
    assert machine.run("binaries", "kubelett").stderr == "binaries: no way to build kubelett\n"
    assert machine.run("prepare", "kindd").stderr == (
        "prepare: unknown group kindd: api, prometheus, chart, kind\n"
    )


def test_an_old_python_is_refused_with_what_to_do(machine: Machine, tmp_path: Path) -> None:
    root = Path(shutil.copytree(TESTBED, tmp_path / "clone" / "testbed")).parent
    for name in ("requirements-dev.lock", "pyproject.toml"):
        shutil.copy(TESTBED.parent / name, root / name)
    machine.script("python3", "#!/bin/bash\nexit 1\n")
    sums = shutil.which("sha256sum")
    assert sums
    (machine.root / "path" / "sha256sum").symlink_to(sums)
    done = machine.run(str(root / "testbed" / "venv"))
    assert done.returncode == 1
    assert done.stderr == ("venv: no Python 3.11 or later found: install one, or name it with PYTHON=...\n")


KEDA = ("ghcr.io/kedacore/keda:2.21.0", "ghcr.io/kedacore/keda-metrics-apiserver:2.21.0")
# What kustomize makes of KEDA's config/minimal, as far as the script changes it.
KUSTOMIZED = """\
        image: ghcr.io/kedacore/keda:main
        imagePullPolicy: Always
---
        image: ghcr.io/kedacore/keda-metrics-apiserver:main
        imagePullPolicy: Always
"""


def test_where_images_can_be_pulled_keda_is_the_official_one(machine: Machine) -> None:
    (machine.root / "module" / "config" / "minimal").mkdir(parents=True)
    machine.script("go", '#!/bin/bash\nprintf \'\\t"Dir": "%s",\\n\' "$MACHINE/module"\n')
    machine.script("kubectl", f"#!/bin/bash\ncat <<'E'\n{KUSTOMIZED}E\n")
    machine.write("registry", *KEDA)
    done = machine.run("keda-image")
    manifest = machine.root / "cache" / "keda-v2.21.0.yaml"
    assert (done.returncode, done.stdout) == (0, f"{manifest}\n"), done.stderr
    assert manifest.read_text() == KUSTOMIZED.replace(":main", ":2.21.0").replace("Always", "IfNotPresent")
    assert not [call for call in machine.calls("docker") if call.startswith("build")]


def test_keda_that_is_there_is_neither_pulled_nor_built_and_needs_no_go(machine: Machine) -> None:
    manifest = machine.root / "cache" / "keda-v2.21.0.yaml"
    manifest.parent.mkdir()
    manifest.write_text("        image: keda:from-source\n")
    machine.write("images", "keda:from-source")
    done = machine.run("keda-image")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{manifest}\n", "")
    machine.write("images")
    done = machine.run("keda-image")
    assert done.returncode == 1
    assert done.stderr == (
        "keda-image: no KEDA v2.21.0 with its images: install Go 1.24 or later, and its module, which has "
        "the manifest, is downloaded\n"
    )


def test_what_must_be_compiled_without_go_is_said_before_anything_is_pulled_or_built(
    machine: Machine,
) -> None:
    done = machine.run("prepare", "kind")
    assert done.returncode == 1
    assert done.stderr == (
        "binaries: missing: helm; put them on the PATH, or install Go 1.24 or later and they are compiled\n"
    )
    assert machine.calls("docker") == []


def test_where_images_can_be_pulled_and_tools_are_there_a_cluster_needs_no_go(machine: Machine) -> None:
    machine.has("helm")
    machine.write("registry", PULLED, "debian:bookworm-slim", "prom/prometheus:v3.15.0")
    machine.write("images", "penstock-prometheus:dev")
    done = machine.run("prepare", "kind")
    assert done.returncode == 0, done.stderr
