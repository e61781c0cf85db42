# A tenant of the `containers` scenario: testpmd carries frames between the container's virtio-user port, which
# is what an application on DPDK would open, and a tap, so that the ordinary kernel of the container has them too.
ARG BASE=docker.io/library/debian:bookworm-slim
FROM ${BASE}
RUN apt-get update \
    && apt-get install -y --no-install-recommends dpdk-dev iproute2 iputils-ping librte-meta-bus \
        librte-mempool-ring23 librte-net-tap23 librte-net-virtio23 \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/archives/*.deb
