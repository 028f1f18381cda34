# Debian's Prometheus for kind clusters that cannot pull one; configuration comes from a ConfigMap.
ARG BASE=debian:bookworm-slim
FROM ${BASE}
RUN apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
      ca-certificates prometheus && rm -rf /var/lib/apt/lists/* /var/cache/* /etc/prometheus/*
USER 65534:65534
EXPOSE 9090
ENTRYPOINT ["prometheus"]
