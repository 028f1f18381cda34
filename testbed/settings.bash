# Versions, places and messages of the testbed's scripts; sourced by them.
K8S=${K8S:-v1.34.4}
KIND=${KIND:-v0.30.0}
HELM=${HELM:-v3.18.6}
ETCD=${ETCD:-v3.6.5}
COREDNS=${COREDNS:-v1.12.1}
PROMETHEUS=${PROMETHEUS:-v3.15.0}
GATEWAY_API=${GATEWAY_API:-v1.4.0}
KEDA=${KEDA:-v2.21.0}
# What kind v0.30.0 itself takes by default; used where images can be pulled.
PULLED_NODE=kindest/node:v1.34.0@sha256:7416a61b42b1662ca6ca89f02028ac133a309a2a30ba309614e8ec94d976dc5a
BUILT_NODE=${BUILT_NODE:-kindest/node:$K8S}
BASE_IMAGE=${BASE_IMAGE:-debian:bookworm-slim}
CACHE=${CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/kind-from-source}
PULL_SECONDS=${PULL_SECONDS:-300}
INOTIFY=${INOTIFY:-/proc/sys/fs/inotify/max_user_instances}
bin=$CACHE/bin
mkdir -p "$bin"
# First what this machine's owner installed, then what was built here.
export PATH="$PATH:$bin" CGO_ENABLED=0

say() { echo "${0##*/}: $*" >&2; }
fail() { say "$*"; exit 1; }

# once NAME: hold a lock until the script ends, so that two callers do not build the same thing.
once() {
  exec 8>"$CACHE/$1.lock"
  flock -n 8 || { say "waiting for another run to finish"; flock 8; }
}

# install_packages NAME...: Debian packages, where that is possible.
install_packages() {
  if ! command -v apt-get >/dev/null || [ "$(id -u)" != 0 ]; then
    fail "missing: $*; install them (on Debian: sudo apt-get install $*)"
  fi
  say "installing $*"
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

has_image() { docker image inspect "$1" >/dev/null 2>&1; }

# pull IMAGE: quick where no container registry can be reached (the name does not resolve, or nothing
# listens); where one answers, it may take its time.
pull() { timeout "$PULL_SECONDS" docker pull -q "$1" >/dev/null 2>&1; }
