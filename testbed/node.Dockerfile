# The node of a kind cluster before Kubernetes is put into it: Debian's containerd, kind's own files.
ARG BASE=debian:bookworm-slim
FROM ${BASE}
COPY files/usr/local/bin/ /usr/local/bin/
COPY files/kind/ /kind/
RUN chmod 755 /usr/local/bin/* /kind/bin/* /kind /kind/bin && apt-get update -qq \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
      systemd dbus conntrack iptables nftables iproute2 ethtool util-linux mount kmod libseccomp2 pigz \
      bash ca-certificates curl jq procps socat containerd runc containernetworking-plugins \
    && rm -rf /var/lib/apt/lists/* \
    && find /lib/systemd/system/sysinit.target.wants/ -name systemd-tmpfiles-setup.service -delete \
    && rm -f /lib/systemd/system/multi-user.target.wants/* /etc/systemd/system/*.wants/* \
      /lib/systemd/system/local-fs.target.wants/* /lib/systemd/system/sockets.target.wants/*udev* \
      /lib/systemd/system/sockets.target.wants/*initctl* /lib/systemd/system/basic.target.wants/* \
    && echo "ReadKMsg=no" >> /etc/systemd/journald.conf && ln -sf /lib/systemd/systemd /sbin/init
# After apt, so that containerd's own configuration file does not collide with kind's.
COPY files/etc/ /etc/
RUN chmod 644 /etc/systemd/system/*.service /etc/systemd/system/kubelet.slice \
    && sed -i 's#/usr/local/bin/containerd#/usr/bin/containerd#' /etc/systemd/system/containerd.service \
    && rm -f /lib/systemd/system/containerd.service \
    && systemctl enable kubelet.service containerd.service undo-mount-hacks.service \
    && systemctl mask systemd-binfmt.service \
    && mkdir -p /etc/kubernetes/manifests /etc/cni/net.d /opt/cni && ln -s /usr/lib/cni /opt/cni/bin
# One node: a static network instead of a CNI daemon.
RUN echo '{"cniVersion":"0.4.0","name":"kindnet","plugins":[{"type":"ptp","ipMasq":false,"mtu":1500,"ipam":{"type":"host-local","dataDir":"/run/cni-ipam-state","routes":[{"dst":"0.0.0.0/0"}],"ranges":[[{"subnet":"10.244.0.0/24"}]]}},{"type":"portmap","capabilities":{"portMappings":true}}]}' \
    > /etc/cni/net.d/10-static.conflist \
    && mkdir -p /kind/manifests \
    && printf 'apiVersion: storage.k8s.io/v1\nkind: StorageClass\nmetadata:\n  name: standard\n  annotations: {storageclass.kubernetes.io/is-default-class: "true"}\nprovisioner: kubernetes.io/no-provisioner\n' > /kind/manifests/default-storage.yaml
# For hosts whose root lacks CAP_SYS_RESOURCE; does nothing elsewhere.
COPY runc-without-sys-resource /usr/local/sbin/runc
RUN ctr oci spec | jq '.hooks.createContainer[.hooks.createContainer|length] |= . + {"path":"/kind/bin/mount-product-files.sh"} | del(.process.rlimits)' \
      > /etc/containerd/cri-base.json \
    && sed -i 's/restrict_oom_score_adj = false/restrict_oom_score_adj = true/' /etc/containerd/config.toml
ENV container=docker
STOPSIGNAL SIGRTMIN+3
ENTRYPOINT [ "/usr/local/bin/entrypoint", "/sbin/init" ]
