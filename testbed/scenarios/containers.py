#!/usr/bin/python3
"""Board and two gateways as containers of the image built from `Dockerfile`, and two tenant containers whose ports
are virtio-user: they reach each other through the gateways.

The gateways' underlay is a veth laid into each container; a tenant reaches its gateway by a vhost-user socket in
a folder both have mounted. In the tenant, testpmd opens the virtio-user port, as an application on DPDK would,
and passes its frames to a tap, so that ping, UDP streams and TCP can be used.
"""

import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from lib import scenario
from lib.lab import Failure, containers, fabric, say
from lib.lab.netns import wire_to_bridge
from lib.product import ron, stopover
from lib.traffic import capture, mesh

VNI = 100
TENANT_MIB = 64
# testpmd knows no idle: both tenants poll on one CPU, and leave the other to everybody else.
POLLED_CPU = 1


def wait(what, true, who, timeout=20):
    """Waits until `true()` while container `who` lives."""
    end = time.monotonic() + timeout
    while not true():
        who.check()
        if time.monotonic() > end:
            raise Failure(f"{who.name}: {what} did not come within {timeout} s; last words:\n    {who.said()}")
        time.sleep(0.1)


def gateway(lab, net, number, image):
    """A gateway container. Its program waits for the underlay cable, which can only be laid once it exists."""
    name = f"gw-{number}"
    a = stopover.Appliance(lab, name, None, net.board)
    a.number = number
    vteps = [fabric.VTEP4.format(number) + "/24", fabric.VTEP6.format(number) + "/64"]
    a.af_packet("ul0", "ul0", ron.tagged("underlay", addresses=vteps), mtu=net.mtu)
    role = ron.tagged("vif", vni=VNI, mac=f"02:00:00:00:00:{number:02x}",
                      addresses=[f"192.168.0.{number}", f"fd01::{number}"], guard=True)
    a.vhost("tenant", lab.dir / f"t{number}.sock", role)
    a.config["eal"][-1] = "0@(0-1),1@0"
    a.config["eal"].append("--iova-mode=va")  # a container may not look up physical addresses
    start = f"until [ -e /sys/class/net/ul0/operstate ]; do sleep 0.05; done; exec stopover-appliance {a.write()}"
    a.process = containers.Container(lab, name, image, ["sh", "-c", start])
    a.ns = a.process.ns
    wire_to_bridge(a.ns, "ul0", net.switch, "br0", f"port{number}", mtu=net.mtu)
    wait("its control socket", a.socket.exists, a.process)
    return a


def tenant(lab, number, image):
    """A tenant container, on the socket of gateway `number`."""
    mac = f"02:00:00:00:00:{number:02x}"
    pmd = ["dpdk-testpmd", "--no-pci", "--in-memory", "--iova-mode=va", "--single-file-segments",
           "--file-prefix", f"so{lab.pid}t{number}", "-m", str(TENANT_MIB), "--lcores", f"0@(0-1),1@{POLLED_CPU}",
           f"--vdev=net_virtio_user0,path={lab.dir}/t{number}.sock,mac={mac},queue_size=1024",
           f"--vdev=net_tap0,iface=eth0,mac={mac}",
           "--", "--total-num-mbufs=8192", "--forward-mode=io", "--auto-start", "--stats-period", "1"]
    c = containers.Container(lab, f"tenant-{number}", image, pmd, "--device", "/dev/net/tun")
    wait("its tap", lambda: "eth0" in c.ns.run("ip", "-o", "link"), c)
    c.ns.quiet("eth0")
    c.ns.ip("link", "set", "eth0", "up")
    c.ns.address("eth0", f"192.168.0.{number}/24", f"fd01::{number}/64")
    return mesh.Station(c.ns, number, VNI, [f"192.168.0.{number}", f"fd01::{number}"])


def body(lab):
    say(f"building the images with {containers.engine().name}")
    binaries = [stopover.program(n) for n in ("stopover-appliance", "stopover-bbs", "stopover")]
    image, tenant_image = containers.images(lab, binaries)
    lab.hugepages(2 * stopover.MEMORY_MIB + 2 * TENANT_MIB + 64)

    say("starting the board, two gateways and two tenants, each in a container")
    net = fabric.Fabric(lab)
    net.board = stopover.Board.configure(lab)
    net.board.init()
    c = containers.Container(lab, "board", image, ["stopover-bbs", net.board.config])
    wait("its socket", net.board.socket.exists, c)
    gateways = [gateway(lab, net, n, image) for n in (1, 2)]
    tenants = [tenant(lab, n, tenant_image) for n in (1, 2)]
    stopover.wait_nodes(gateways, 2)
    say("both gateways know both tenants")

    wire = capture.Capture(lab, net.switch, "br0", "underlay")
    pinged, bad_pings = mesh.pings(tenants, count=50)
    say(f"ping: {dict(pinged)}")
    udp = mesh.streams(lab, tenants, count=300, rate=500)
    say(f"UDP streams: {dict(udp)}")
    iperf = mesh.Iperf(lab, tenants)
    tcp, bad_tcp = iperf.all_pairs(amount="2M")
    iperf.stop()
    say(f"iperf3: {dict(tcp)}")
    for line in bad_pings + bad_tcp:
        say(line)
    if bad_tcp:
        raise Failure(f"{len(bad_tcp)} TCP transfers failed")
    wire.stop()
    accounting = stopover.accounting(gateways)
    seen = capture.Reading(wire.path)
    bad = seen.bad_checksums()
    capture.tell(("bad checksum", bad))
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
