#!/usr/bin/python3
"""The board and two gateways as containers of the image of `Dockerfile`: two tenant containers with virtio-user ports
reach each other through them.

The underlay of a gateway is a veth in its container. A tenant is connected to its gateway by a vhost-user socket in a
folder that both mount. In the tenant, testpmd opens the virtio-user port, as a DPDK application would, and forwards its
frames to a tap, for ping, UDP streams and TCP.
"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from lib import scenario
from lib.lab import containers, fabric, info
from lib.lab.netns import wire_to_bridge
from lib.product import ron, stopover
from lib.traffic import capture, mesh

VNI = 100
TENANT_MIB = 64
# testpmd always polls: both tenants use one CPU and leave the other to the rest.
POLLED_CPU = 1


def gateway(lab, net, number, image):
    """A gateway container. Its program waits for the underlay cable, which needs the container's namespace."""
    name = f"gw-{number}"
    a = stopover.Appliance(lab, name, None, net.board)
    a.number = number
    vteps = [fabric.VTEP4.format(number) + "/24", fabric.VTEP6.format(number) + "/64"]
    a.af_packet("ul0", "ul0", ron.tagged("underlay", addresses=vteps), mtu=net.mtu)
    role = ron.tagged("vif", vni=VNI, mac=f"02:00:00:00:00:{number:02x}",
                      addresses=[f"192.168.0.{number}", f"fd01::{number}"], guard=True)
    a.vhost("tenant", lab.dir / f"t{number}.sock", role)
    a.config["eal"][-1] = "0@(0-1),1@0"
    a.config["eal"].append("--iova-mode=va")  # a container has no access to physical addresses
    start = f"until [ -e /sys/class/net/ul0/operstate ]; do sleep 0.05; done; exec stopover-appliance {a.write()}"
    a.process = containers.Container(lab, name, image, ["sh", "-c", start])
    a.ns = a.process.ns
    wire_to_bridge(a.ns, "ul0", net.switch, "br0", f"port{number}", mtu=net.mtu)
    a.process.wait_for("its control socket", a.socket.exists)
    return a


def tenant(lab, number, image):
    """A tenant container on the socket of gateway `number`."""
    mac = f"02:00:00:00:00:{number:02x}"
    pmd = ["dpdk-testpmd", "--no-pci", "--in-memory", "--iova-mode=va", "--single-file-segments",
           "--file-prefix", f"so{lab.pid}t{number}", "-m", str(TENANT_MIB), "--lcores", f"0@(0-1),1@{POLLED_CPU}",
           f"--vdev=net_virtio_user0,path={lab.dir}/t{number}.sock,mac={mac},queue_size=1024",
           f"--vdev=net_tap0,iface=eth0,mac={mac}",
           "--", "--total-num-mbufs=8192", "--forward-mode=io", "--auto-start", "--stats-period", "1"]
    c = containers.Container(lab, f"tenant-{number}", image, pmd, "--device", "/dev/net/tun")
    c.wait_for("its tap", lambda: "eth0" in c.ns.run("ip", "-o", "link"))
    c.ns.quiet("eth0")
    c.ns.ip("link", "set", "eth0", "up")
    c.ns.address("eth0", f"192.168.0.{number}/24", f"fd01::{number}/64")
    return mesh.Station(c.ns, number, VNI, [f"192.168.0.{number}", f"fd01::{number}"])


def body(lab):
    info(f"building the images with {containers.engine().name}")
    binaries = [stopover.program(n) for n in ("stopover-appliance", "stopover-bbs", "stopover")]
    image, tenant_image = containers.images(lab, binaries)
    lab.hugepages(2 * stopover.MEMORY_MIB + 2 * TENANT_MIB + 64)

    info("starting the board, two gateways and two tenants, each in a container")
    net = fabric.Fabric(lab)
    net.board = stopover.Board.configure(lab)
    net.board.init()
    c = containers.Container(lab, "board", image, ["stopover-bbs", net.board.config])
    c.wait_for("its socket", net.board.socket.exists)
    gateways = [gateway(lab, net, n, image) for n in (1, 2)]
    tenants = [tenant(lab, n, tenant_image) for n in (1, 2)]
    stopover.wait_nodes(gateways, 2)
    info("both gateways have both tenants")

    wire = capture.Capture(lab, net.switch, "br0", "underlay")
    pinged, udp, tcp = mesh.everything(lab, tenants, 50, 300, 500, "2M")
    wire.stop()
    accounting = stopover.accounting(gateways)
    seen = capture.Reading(wire.path)
    bad = seen.bad_checksums()
    capture.print_findings(("bad checksum", bad))
    return {
        "lost": pinged["lost"] + udp["lost"],
        "duplicated": pinged["duplicated"] + udp["duplicated"],
        "damaged": udp["damaged"],
        "bad_checksums": len(bad),
        **accounting,
        "vxlan_frames": seen.vxlan(),
        "udp_sent": udp["sent"],
        "engine": containers.engine().name,
        **tcp,
    }


scenario.main("containers", body,
              must_be_zero=["lost", "duplicated", "damaged", "bad_checksums", "unaccounted", "faulty_drops"],
              must_be_positive=["vxlan_frames", "udp_sent", "tcp_bytes"])
