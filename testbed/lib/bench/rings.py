"""The DUTs of the bench on vhost-user ports, with a tester on the other side.

Both ports of a DUT are rings, as a virtual machine has them: a frame that finds the ring full is lost. A DUT has the
port of the station, `vm1`, and that of the underlay, `ul0`; both directions are measured with one process, one after
the other. The tester has the same virtio-user ports, flows and rings for all DUTs.
"""

import re
import time

from ..lab import Failure
from ..traffic.frames import write_pcap
from . import workload
from .dut import MBUFS, WORKER_CPU, Gateway, Ovs, Testpmd
from .setup import FRAMES, Bench
from .tester import DESCRIPTORS, Tester, preferred
from .workload import IMIX, VHOST_MAC

NUMBER = 1  # of the station and VTEP of every DUT
MTU = 1600  # of the underlay: room for IMIX in a tunnel
SIZES = {"64": (64,), "imix": IMIX}
DIRECTIONS = ("encap", "decap")
SECONDS = 0.4
REST = 0.15
PATIENCE_S = 15


class RingTestpmd(Testpmd):
    """testpmd io between the two rings: the most that rings and tester allow."""

    def __init__(self, lab, ns):
        super().__init__(lab, ns, "testpmd-rings", "both", None, 0)
        self.vm, self.underlay = lab.dir / f"{self.name}-vm1", lab.dir / f"{self.name}-ul0"

    def argv(self):
        return [f"--file-prefix=so{self.lab.pid}{self.name}",
                "-m", str(64 + MBUFS * 2600 // 2 ** 20), "--lcores", f"0@0,1@{WORKER_CPU}",
                f"--vdev=net_vhost0,iface={self.underlay}", f"--vdev=net_vhost1,iface={self.vm}",
                "--", "-i", f"--total-num-mbufs={MBUFS}", "--forward-mode=io", "--no-flush-rx"]

    def stop_until_turn(self):
        self.resume()
        return super().stop_until_turn()

    def quit(self):
        """Without a command: messages about its links may appear in its prompt."""
        self.process.stop()


class RingGateway(Gateway):
    """Our appliance with its defaults, except for `idle` if that is given. It connects to the vhost-user socket
    `underlay` of another one, or makes a socket of its own."""

    def __init__(self, lab, ns, world, board, name="stopover-rings", idle=None, number=NUMBER, cpu=WORKER_CPU,
                 underlay=None):
        self.vm, self.underlay, self.connects = lab.dir / f"{name}-vm1", lab.dir / f"{name}-ul0", underlay
        super().__init__(lab, ns, name, "both", number, world, board, None, 0, mtu=MTU)
        eal = self.appliance.config["eal"]
        eal[-1] = f"0@0,1@{cpu}"
        if underlay:
            eal.append("--single-file-segments")  # a virtio-user port cannot have more files
        if idle:
            self.appliance.config["idle"] = idle

    def add_ports(self, roles, _source, _sink):
        role, more = roles["ul0"]
        if self.connects:
            self.appliance.port("ul0", f"net_virtio_user0,path={self.connects},queues=1,queue_size={DESCRIPTORS}", role,
                                **more)
        else:
            self.appliance.vhost("ul0", self.underlay, role, **more)
        role, more = roles["vm1"]
        self.appliance.vhost("vm1", self.vm, role, **more)

    def busy(self):
        """(busy cycles, frames) of its worker since the start."""
        lcores = self.request("/v1/lcores")
        return sum(one["busy_cycles"] for one in lcores), sum(one["frames"] for one in lcores)

    def wait_traffic(self, patience=0):
        """Nothing to wait for: there is no traffic before the tester sends."""


class RingOvs(Ovs):
    """Open vSwitch with its own vhost-user ports."""

    underlay_mac = VHOST_MAC
    settings = {"per-port-memory": "true"}  # else mbufs take all memory, and none is left for rings

    def __init__(self, lab, world):
        super().__init__(lab, "ovs-rings", "both", NUMBER, world, None, FRAMES, mtu=MTU)
        self.vm, self.underlay = self.dir / "vm1", self.dir / "ul0"

    def interfaces(self):
        return [["type=dpdkvhostuser"]] * 2

    def busy(self):
        """(busy cycles, frames) of its polling thread since the start."""
        polling = self.request("dpif-netdev/pmd-stats-show").split("main thread:")[0]
        return tuple(int(re.search(rf"{what}: (\d+)", polling)[1]) for what in ("processing cycles", "packets received"))

    def wait_traffic(self, patience=0):
        """Nothing to wait for: there is no traffic before the tester sends."""


class RingBench(Bench):
    """A Bench with files of flows for the tester: both directions, all of SIZES."""

    def write_flows(self):
        self.flows = self.flows_of(NUMBER)

    def flows_of(self, number):
        """{name: file} of frames from and to the station of appliance `number`."""
        paths = {}
        for name, sizes in SIZES.items():
            frames = {"encap": [f for _, f in workload.encap_frames(self.world, number, self.frames, sizes)],
                      "decap": [f for _, f, _ in workload.decap_frames(self.world, number, self.frames, sizes,
                                                                          VHOST_MAC)]}
            for d in DIRECTIONS:
                paths[f"{d}-{name}"] = self.lab.dir / f"{d}-{name}-{number}.pcap"
                write_pcap(paths[f"{d}-{name}"], frames[d])
        return paths

    def devices(self):
        """All three DUTs, not started."""
        return [RingTestpmd(self.lab, self.ns), RingOvs(self.lab, self.world),
                RingGateway(self.lab, self.ns, self.world, self.board)]

    def connect(self, device, flows=None, **more):
        """Starts a DUT and a tester for it, waits until frames pass, and stops both until their turn."""
        return Rig(self.lab, device.start(), flows or self.flows, self.ns, **more)

    def rigs(self):
        """All three, connected."""
        return [self.connect(d) for d in self.devices()]


class Rig:
    """A DUT with its tester."""

    def __init__(self, lab, device, flows, ns, **more):
        self.device, self.name = device, device.name.split("-")[0]
        device.resume()
        self.tester = Tester(lab, f"tester-{device.name}", device.vm, device.underlay, flows, ns, **more)
        end = time.monotonic() + PATIENCE_S
        while any(self.tester.trial(d, f"{d}-64", 10_000, 0.05, **device.options)["lost"] for d in DIRECTIONS):
            device.process.check()
            if time.monotonic() > end:
                raise Failure(f"{device.name} loses frames at 10,000 a second")
            time.sleep(0.1)
        device.pause()

    def trial(self, direction, flows, pps, seconds=SECONDS, **more):
        """A trial, and a pause after it (see `preferred`). Adds to the report how much of its CPU the DUT had."""
        with preferred([self.tester.process.pid, *(int(t.name) for t in self.device.tasks)]):
            self.device.resume()
            try:
                began, before = time.monotonic(), self.device.ran()
                report = self.tester.trial(direction, flows, pps, seconds, **self.device.options, **more)
                report["cpu_percent"] = 100 * (self.device.ran() - before) / (time.monotonic() - began)
                return report
            finally:
                self.device.pause()
                time.sleep(seconds * REST)

    def counted_trial(self, *trial, **more):
        """A trial with the busy cycles per frame in its report."""
        before = self._busy()
        report = self.trial(*trial, **more)
        cycles, frames = (b - a for a, b in zip(before, self._busy()))
        if not frames:
            raise Failure(f"{self.device.name} received no frame")
        return {**report, "cycles": cycles / frames}

    def _busy(self):
        self.device.resume()
        counted = self.device.busy()
        self.device.pause()
        return counted

    def quit(self):
        """Ends both."""
        self.tester.process.stop()
        self.device.quit()
