"""The kernel's VXLAN and bridge, fed by testpmd through a kernel port, beside the appliance with the same kind of port:
af_packet for encap, as underlay ports may have; a tap for decap, as a VM's port must have.

    kernel-encap   testpmd: file -> port = veth | veth = bridge = vxlan -> route, neighbour -> veth | veth
    kernel-decap   testpmd: file -> port = veth | veth -> UDP -> vxlan = bridge = veth | veth
    bridged        testpmd: file -> port = veth | veth = bridge = veth | veth: the same without the tunnel
    bare           testpmd: file -> port = veth | veth
    stopover       the appliance: file -> encap or decap -> port = veth | veth

The kernel drops the frames at the last veth. A veth hands its frames to the same CPU, which takes them in the softirq
at the end of each send, so all work of the kernel is on the worker's CPU, in or beside the system calls of the worker.
The frames that the last veth but one sent are counted.
"""

import pathlib
import re

from ...lab import info
from ...lab.netns import Namespace
from ...traffic.frames import mac_text, read_pcap
from .. import frame_check, result_files, sampling, workload
from ..dut import PCAP_MAC, WORKER_CPU, Testpmd
from ..setup import NUMBERS, Bench
from ..workload import VNI, VXLAN_PORT, own

SECONDS = 0.3
UNDERLAY_MTU = 1600
TAP = "tap0"
SINK_PORT = {"encap": "net_af_packet0,iface=src0,framecnt=2048", "decap": f"net_tap0,iface={TAP}"}
CAPTURED = 400


def softirq_daemon():
    """The schedstat of ksoftirqd on the worker's CPU, which executes long softirqs; None if there is none."""
    for comm in pathlib.Path("/proc").glob("[0-9]*/comm"):
        if comm.read_text().strip() == f"ksoftirqd/{WORKER_CPU}":
            return comm.parent / "schedstat"
    return None


class Fed(Testpmd):
    """testpmd that sends the file to a veth, and the kernel behind it. `out` is the interface whose transmitted frames
    are counted."""

    def __init__(self, lab, ns, name, direction, flows, frames, out="src0"):
        super().__init__(lab, ns, name, direction, flows, frames, sink=SINK_PORT[direction])
        self.number, self.out, self.daemon = NUMBERS[direction], out, softirq_daemon()

    def counters(self):
        received, _, bad = super().counters()
        return received, self.interfaces()[self.out]["tx_packets"], bad + self.refused()

    def interfaces(self):
        """The kernel's interface counters in the namespace of the process."""
        found = {}
        for m in re.finditer(r"^ *(\S+):(.*)$", pathlib.Path(f"/proc/{self.process.pid}/net/dev").read_text(), re.M):
            n = [int(x) for x in m[2].split()]
            found[m[1]] = {"rx_packets": n[1], "rx_dropped": n[3], "tx_packets": n[9], "tx_dropped": n[11]}
        return found

    def refused(self):
        """Frames that an interface on the path dropped. A bare veth drops all frames, so they do not count."""
        found = self.interfaces()
        devs = {"src0"} if self.out == "src0" else {"src0", "dst0", "vx0", "br0", self.out}
        return sum(found[d]["tx_dropped"] + found[d]["rx_dropped"] for d in devs & set(found))

    def waited(self):
        """Without the time of ksoftirqd, which is the kernel's work for our frames."""
        ran = int(self.daemon.read_text().split()[0]) / 1e9 if self.daemon else 0
        return super().waited() - ran


def cable(lab, name, mac="02:00:00:00:00:fe"):
    """A namespace with a veth for the frames of the file. Its frames stay on the CPU that sends them, which is the
    default."""
    ns = Namespace(lab, name)
    ns.sysctl("ipv6.conf.default.disable_ipv6", 1)
    ns.ip("link", "add", "src0", "mtu", UNDERLAY_MTU, "type", "veth",
          "peer", "name", "dst0", "mtu", UNDERLAY_MTU, "address", mac)
    for dev in ("src0", "dst0"):
        ns.plain(dev)
        ns.ip("link", "set", dev, "up")
    return ns


def add_exit(ns):
    """Adds a second veth, `out0`."""
    ns.ip("link", "add", "out0", "mtu", UNDERLAY_MTU, "type", "veth", "peer", "name", "end0", "mtu", UNDERLAY_MTU)
    for dev in ("out0", "end0"):
        ns.plain(dev)
        ns.ip("link", "set", dev, "up")


def bridge(ns, *devs):
    """Makes a bridge of these interfaces that neither learns nor floods."""
    ns.ip("link", "add", "br0", "type", "bridge", "stp_state", 0, "mcast_snooping", 0)
    for dev in devs:
        ns.ip("link", "set", dev, "master", "br0", "up")
        ns.run("bridge", "link", "set", "dev", dev, "learning", "off", "flood", "off")
    ns.ip("link", "set", "br0", "up")


def tunnel(ns, number, world, underlay, station):
    """Makes a vxlan device and a bridge with static entries for all nodes, without learning."""
    ns.run("ip", "link", "add", "vx0", "type", "vxlan", "id", VNI, "local", own(number)[2], "dstport", VXLAN_PORT,
           "dev", underlay, "nolearning")
    bridge(ns, "vx0", station)
    lines = [f"fdb add {mac_text(own(number)[0])} dev {station} master static"]
    for n in range(world.nodes):
        mac = mac_text(world.mac(n))
        lines += [f"fdb append {mac} dev vx0 dst {world.vtep(world.host(n))}", f"fdb add {mac} dev vx0 master static"]
    ns.run("bridge", "-batch", "-", stdin="\n".join(lines) + "\n")


def address(ns, dev, number, world):
    """Sets the VTEP on an interface, and all others as static neighbours."""
    ns.address(dev, f"{own(number)[2]}/16")
    ns.run("ip", "-batch", "-", stdin="".join(
        f"neigh replace {world.vtep(h)} lladdr {mac_text(world.host_mac(h))} dev {dev} nud permanent\n"
        for h in range(world.hosts)))


def encap(lab, bench):
    ns, number = cable(lab, "kernel-encap"), NUMBERS["encap"]
    add_exit(ns)
    address(ns, "out0", number, bench.world)
    tunnel(ns, number, bench.world, "out0", "dst0")
    return Fed(lab, ns, "kernel-encap", "encap", bench.flows["encap"], bench.frames, "out0")


def decap(lab, bench):
    ns, number = cable(lab, "kernel-decap", mac_text(PCAP_MAC)), NUMBERS["decap"]
    add_exit(ns)
    address(ns, "dst0", number, bench.world)
    tunnel(ns, number, bench.world, "dst0", "out0")
    return Fed(lab, ns, "kernel-decap", "decap", bench.flows["decap"], bench.frames, "out0")


def bridged(lab, bench, direction):
    ns, world = cable(lab, f"bridged-{direction}"), bench.world
    add_exit(ns)
    bridge(ns, "dst0", "out0")
    macs = map(world.mac, range(world.nodes)) if direction == "encap" else [PCAP_MAC]
    ns.run("bridge", "-batch", "-", stdin="".join(f"fdb add {mac_text(mac)} dev out0 master static\n" for mac in macs))
    return Fed(lab, ns, f"bridged-{direction}", direction, bench.flows[direction], bench.frames, "out0")


def bare(lab, bench, direction):
    return Fed(lab, cable(lab, f"bare-{direction}"), f"bare-{direction}", direction, bench.flows[direction],
               bench.frames)


def ours(lab, bench, direction):
    """The appliance, with the same sink as testpmd."""
    g = bench.gateway(direction, sink=SINK_PORT[direction])
    g.ns = g.appliance.ns = cable(lab, f"ours-{direction}")
    return g


def join(dut):
    """Joins a tap to the veth."""
    if dut.direction == "decap":
        dut.ns.join(TAP, "src0")


def body(lab, rounds):
    lab.hugepages(2048)
    bench = Bench(lab, tag="-kernel")
    duts = [encap(lab, bench), decap(lab, bench)]
    duts += [make(lab, bench, d) for d in NUMBERS for make in (bridged, bare, ours)]
    try:
        for c in duts:
            c.start()
            join(c)
        wrong = sum(check(bench, c) for c in duts[:len(NUMBERS)])
        info(f"measuring {len(duts)} data paths in {rounds} rounds, {SECONDS} s each")
        before = received_by_cpu()
        turns = sampling.in_turns(duts, SECONDS, rounds)
        done = [b - a for a, b in zip(before, received_by_cpu())]
    finally:
        for c in duts:
            c.wake()
    return report({f"{c.name.split('-')[0]}-{c.direction}": turns[c.name] for c in duts}, wrong,
                  100 * done[WORKER_CPU] / sum(done))


def check(bench, dut):
    """How many of the frames that the kernel sends are wrong."""
    path = bench.lab.dir / f"{dut.name}.pcap"
    dut.resume()
    dut.ns.run("tcpdump", "-i", dut.out, "-c", CAPTURED, "-w", path)
    dut.pause()
    world, number = bench.world, dut.number
    if dut.direction == "encap":
        expected = {f: n for n, f in workload.encap_frames(world, number, bench.frames)}
    else:
        expected = {i for _, _, i in workload.decap_frames(world, number, bench.frames)}
    return frame_check.wrong(dut, read_pcap(path), world, expected)


def received_by_cpu():
    """The receive softirqs of each CPU."""
    line = next(x for x in pathlib.Path("/proc/softirqs").read_text().splitlines() if "NET_RX:" in x)
    return [int(n) for n in line.split()[1:]]


def report(turns, wrong, on_worker):
    table = {name: sampling.summary(t) for name, t in turns.items()}
    figures = {"wrong_frames": wrong, "lost": sum(s["lost"] for s in table.values()), "floors_missed": 0,
               "softirqs_on_worker_percent": round(on_worker, 1)}
    for d in NUMBERS:
        sampling.put_ratio(figures, f"{d}_vs_kernel",
                           *[[t.mpps for t in turns[f"{who}-{d}"]] for who in ("stopover", "kernel")], digits=2)
        # The cycles of the kernel and of ours without the ports.
        figures[f"{d}_tunnel_cycles"] = [round(table[f"{who}-{d}"]["cycles"] - table[f"{ports}-{d}"]["cycles"])
                                         for who, ports in (("stopover", "bare"), ("kernel", "bridged"))]
    chart = result_files.by_direction(table, "The kernel's VXLAN and bridge, and the appliance, by a kernel port and a veth",
                                      "cycles", "cycles per frame of 64 bytes, median of turns with its interval; "
                                      "bare, bridged: no tunnel")
    info(result_files.write(table, figures, "kernel", chart))
    return figures
