# The images that kubeadm expects, around binaries of ours; one target each.
ARG BASE=debian:bookworm-slim

FROM ${BASE} AS packages
RUN apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends catatonit \
    && rm -rf /var/lib/apt/lists/*

FROM scratch AS pause
COPY --from=packages /usr/bin/catatonit /pause
ENTRYPOINT ["/pause", "-P"]

FROM ${BASE} AS kube-proxy
RUN apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
      conntrack iptables kmod && rm -rf /var/lib/apt/lists/*
COPY kube-proxy /usr/local/bin/
ENTRYPOINT ["/usr/local/bin/kube-proxy"]
