# The image of Stopover: board, appliance and CLI on Debian with DPDK's run-time libraries.
#
#   docker build -t stopover .
#       builds the programs from source in a stage of their own
#   docker build -t stopover --target prebuilt -f Dockerfile FOLDER
#       takes them from FOLDER, where they were built already (on the same Debian release)
#
# An appliance needs hugepages, the right to open packet sockets if it uses net_af_packet, and the vhost-user
# sockets of its VMs or containers:
#   docker run --cap-add NET_ADMIN --cap-add NET_RAW --cap-add IPC_LOCK -v /dev/hugepages:/dev/hugepages \
#       -v /run/stopover:/run/stopover -v /etc/stopover:/etc/stopover stopover
ARG BASE=docker.io/library/debian:bookworm-slim
ARG RUST=docker.io/library/rust:1.95-slim-bookworm

FROM ${BASE} AS base
RUN apt-get update \
    && apt-get install -y --no-install-recommends \
        libipsec-mb1 librte-meta-bus librte-meta-crypto librte-meta-mempool librte-meta-net \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/archives/*.deb
CMD ["stopover-appliance", "/etc/stopover/appliance.ron"]

FROM base AS prebuilt
COPY stopover-appliance stopover-bbs stopover /usr/local/bin/

FROM ${RUST} AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends build-essential git libclang-dev libdpdk-dev libipsec-mb-dev pkg-config \
        protobuf-compiler
WORKDIR /src
COPY . .
RUN cargo build --release --locked --bin stopover-appliance --bin stopover-bbs --bin stopover --workspace \
    && mkdir /out \
    && for b in stopover-appliance stopover-bbs stopover; do strip -o /out/$b target/release/$b; done

FROM base AS runtime
COPY --from=build /out/ /usr/local/bin/
