"""The devices under test (DUTs) of the bench, with the same interface for all. A DUT is started once and stopped until
its turn on the worker's CPU; during its turn it is asked for its counters.

CPU 1 is the worker's: every DUT has exactly one thread there, which polls. The rest of it (a second worker, if there
are two) and this script are on CPU 0. A DUT whose turn it is not is stopped as a whole by SIGSTOP. Its ports are a pcap
file that is served endlessly (`source`) and a port that frees all frames (`sink`).
"""

import contextlib
import dataclasses
import http.client
import json
import os
import pathlib
import re
import signal
import socket
import time

from ..lab import Failure
from ..lab.netns import Namespace
from ..lab.process import Process
from ..peers.ovs import SCHEMA, TUNNEL, VSWITCHD
from ..peers.testpmd import Console
from ..product import ron, stopover
from ..traffic.frames import mac_text
from .workload import PCAP_MAC, VNI

WORKER_CPU = 1
SINK = "net_null0,no-rx=1"
TSC_HZ = round(float(re.search(r"cpu MHz\s*: ([\d.]+)", pathlib.Path("/proc/cpuinfo").read_text())[1]) * 1e6)
MBUFS = 16384  # besides those that a preloaded file takes
PATIENCE_S = 20


@dataclasses.dataclass
class Reading:
    """Counters at one time. `at_s` is on the monotonic clock; `waited_s` is the time in which the polling threads have
    been runnable without a CPU since their start, summed over them."""

    at_s: float
    received: int
    sent: int
    dropped: int
    waited_s: float


def source(flows):
    """The vdev that serves a file endlessly, or several files, each on a receive queue of its own."""
    files = flows if isinstance(flows, (list, tuple)) else [flows]
    return ",".join(["net_pcap0", *(f"rx_pcap={f}" for f in files), "infinite_rx=1"])


def lcores(workers):
    """EAL's lcores: the first worker has a CPU to itself, the second one shares CPU 0 with the main lcore."""
    return ",".join(["0@0", f"1@{WORKER_CPU}", "2@0"][:1 + workers])


def retag(vlan):
    """For OpenFlow rules: the match of a VLAN, and the actions that take its tag off and that add it."""
    return (f"dl_vlan={vlan},", "strip_vlan,", f"mod_vlan_vid:{vlan},") if vlan else ("", "", "")


def pin_this_process():
    """Keeps this process, and all that it starts, off the worker's CPU."""
    os.sched_setaffinity(0, set(range(os.cpu_count())) - {WORKER_CPU})


class Dut:
    """What all DUTs have in common. `direction` is "encap" or "decap"."""

    worker_name = None  # a pattern for the names of its polling threads
    workers = 1
    options = {}  # for the trials of a tester

    def __init__(self, lab, ns, name, direction):
        self.lab, self.ns, self.name, self.direction = lab, ns, name, direction
        self.process, self.tasks = None, []

    def stop_until_turn(self):
        """After the start: finds the polling threads, raises their priority, and stops the process until its turn."""
        home = pathlib.Path(f"/proc/{self.process.pid}/task")
        self.tasks = [t for t in home.iterdir() if re.fullmatch(self.worker_name, (t / "comm").read_text().strip())]
        if len(self.tasks) != self.workers:
            raise Failure(f"{self.name} has {len(self.tasks)} threads called {self.worker_name}, not {self.workers}")
        # The main thread must answer, even if a worker shares its CPU.
        alone = [t.name for t in self.tasks if WORKER_CPU in os.sched_getaffinity(int(t.name))]
        for t in alone if self.workers == 1 else [*alone, self.process.pid]:
            os.setpriority(os.PRIO_PROCESS, int(t), -20)
        self.pause()
        return self

    def pause(self):
        os.kill(self.process.pid, signal.SIGSTOP)

    def resume(self):
        os.kill(self.process.pid, signal.SIGCONT)

    def wake(self):
        """Lets it run, so that it can be ended. A worker on the CPU of its main thread must run, too, to end."""
        if self.process:
            if self.workers > 1:
                os.setpriority(os.PRIO_PROCESS, self.process.pid, 0)
            os.kill(self.process.pid, signal.SIGCONT)

    def quit(self):
        """Ends it."""
        self.resume()
        self.process.stop()

    def waited(self):
        """Seconds in which its polling threads were runnable without a CPU."""
        return sum(int((t / "schedstat").read_text().split()[1]) for t in self.tasks) / 1e9

    def ran(self):
        """Seconds in which its polling threads had a CPU."""
        return sum(int((t / "schedstat").read_text().split()[0]) for t in self.tasks) / 1e9

    def read(self):
        began = time.monotonic()
        received, sent, dropped = self.counters()
        return Reading((began + time.monotonic()) / 2, received, sent, dropped, self.waited())

    def wait_traffic(self, patience=15):
        """Waits until frames come out and none is dropped: links are up, neighbours and routes are known."""
        end, before = time.monotonic() + patience, self.counters()
        while True:
            time.sleep(0.03)
            now = self.counters()
            if now[1] > before[1] and now[2] == before[2]:
                return
            self.process.check()
            if time.monotonic() > end:
                raise Failure(f"{self.name} received {now[0]} frames, sent {now[1]}, dropped {now[2]}")
            before = now

    def counters(self):
        """(frames received at the source, sent to the sink, dropped anywhere)."""
        raise NotImplementedError


class Testpmd(Dut):
    """testpmd between the two ports: the cost of the ports."""

    worker_name = r"(rte|lcore)-worker-\d+"

    def __init__(self, lab, ns, name, direction, flows, frames, mode="io", sink=SINK, workers=1):
        super().__init__(lab, ns, name, direction)
        self.flows, self.frames, self.mode, self.sink, self.workers = flows, frames, mode, sink, workers
        self.working = False

    def argv(self):
        mbufs = self.frames + MBUFS
        queues = len(self.flows) if isinstance(self.flows, (list, tuple)) else 1
        return [f"--file-prefix=so{self.lab.pid}{self.name}",
                "-m", str(64 + mbufs * 2600 // 2 ** 20), "--lcores", lcores(self.workers),
                f"--vdev={source(self.flows)}", f"--vdev={self.sink}",
                "--", "-i", f"--total-num-mbufs={mbufs}", f"--forward-mode={self.mode}", "--no-flush-rx",
                f"--nb-cores={self.workers}", f"--rxq={queues}", f"--txq={queues}"]

    def start(self):
        self.console = Console(self.lab, self.name, self.argv(), ns=self.ns)
        self.process = self.console.process
        return self.stop_until_turn()

    def pause(self):
        """By its own command: its prompt does not work after SIGSTOP."""
        if self.working:
            self.console.command("stop", "Done")
        self.working = False

    def resume(self):
        if not self.working:
            self.console.command("start", "packet forwarding")
        self.working = True

    def counters(self):
        output = self.console.command("show port stats all", "NIC statistics for port 1.*Tx-pps.*####")
        received = sum(int(n) for n in re.findall(r"RX-packets: (\d+)", output))
        sent = sum(int(n) for n in re.findall(r"TX-packets: (\d+)", output))
        bad = sum(int(n) for n in re.findall(r"(?:RX-missed|RX-errors|RX-nombuf|TX-errors): +(\d+)", output))
        return received, sent, bad


class Gateway(Dut):
    """Our appliance with its defaults: guard, ARP and ND, packet accounting and the check for migrating nodes are on.
    """

    worker_name = r"stopover-\d+"

    def __init__(self, lab, ns, name, direction, number, world, board, flows, frames, sink=SINK, mtu=None,
                 mbuf_size=None, workers=1, binary=None):
        super().__init__(lab, ns, name, direction)
        self.number, self.world, self.board, self.workers = number, world, board, workers
        self.binary = binary  # the appliance of another build
        mbufs = frames + MBUFS
        self.appliance = a = stopover.Appliance(lab, name, ns, board)
        a.command = binary and binary.with_name("stopover")
        a.config["eal"][a.config["eal"].index("-m") + 1] = str(96 + mbufs * 2600 // 2 ** 20)
        a.config["eal"][-1] = lcores(workers)
        a.config["mbufs"] = mbufs
        del a.config["idle"]
        if mbuf_size:
            a.config["mbuf_size"] = mbuf_size
        more = {"mtu": mtu} if mtu else {}
        self.names = ("vm1", "ul0") if direction == "encap" else ("ul0", "vm1")
        roles = {"vm1": (self.station_role(), {}), "ul0": (self.underlay_role(), more)}
        if isinstance(flows, (list, tuple)):
            roles[self.names[0]][1]["rxq"] = len(flows)
        self.add_ports(roles, source(flows), sink)

    def station_role(self):
        """The role of the station's port."""
        mac, ip, _ = self.world.own(self.number)
        station = {"mac": mac_text(mac), "addresses": [ip]}
        if self.world.kind.port == "vif":
            return ron.tagged("vif", vni=VNI, **station)
        vlan = self.world.kind.trunk
        return ron.tagged("segment", **({"vlans": ron.Map({vlan: VNI})} if vlan else {"vni": VNI}), stations=[station])

    def underlay_role(self):
        """The role of the underlay's port."""
        vlan = self.world.kind.underlay_vlan
        return ron.tagged("underlay", addresses=[self.world.own_prefix(self.number)],
                          neighbours=self.world.neighbours(), **({"vlan": vlan} if vlan else {}))

    def add_ports(self, roles, from_, to):
        """Adds the source first, which gives it the MAC that the frames are for."""
        for name, vdev in zip(self.names, (from_, to)):
            role, more = roles[name]
            self.appliance.port(name, vdev, role, **more)

    def launch(self):
        self.appliance.start(self.binary)

    def start(self):
        """Starts it and waits until it forwards."""
        self.launch()
        self.process = self.appliance.process
        self.wait_nodes(self.world.nodes, PATIENCE_S + self.world.nodes / 2e5)
        self.wait_traffic()
        return self.stop_until_turn()

    def wait_nodes(self, nodes, patience=PATIENCE_S):
        """Waits until it has at least so many nodes, and has acknowledged the board's last revision."""
        end = time.monotonic() + patience
        while True:
            networks = self.request("/v1/networks")
            networks = networks["rows"] if isinstance(networks, dict) else networks  # a list in builds before pagination
            known = sum({n["vni"]: n["nodes"] for n in networks}.values())
            board = self.request("/v1/board")
            if known >= nodes and board["acknowledged"] == board["revision"] > 0:
                return
            self.process.check()
            if time.monotonic() > end:
                raise Failure(f"{self.name} has {known} nodes after {patience} s, {nodes} were expected; {board}")
            time.sleep(0.02)

    def quit(self):
        super().quit()
        self.board.cli("host", "delete", self.name, "--cascade")  # frees its addresses for the next one

    def request(self, path):
        """Asks its control API."""
        c = http.client.HTTPConnection("stopover", timeout=30)
        c.sock = socket.socket(socket.AF_UNIX)
        c.sock.settimeout(30)
        c.sock.connect(str(self.appliance.socket))
        with contextlib.closing(c):
            c.request("GET", path)
            return json.loads(c.getresponse().read())

    def accounting(self):
        """The appliance's packet accounting. Builds before December 2026 call it `books`."""
        forwarded = self.request("/v1/fwd")
        return forwarded["accounting"] if "accounting" in forwarded else forwarded["books"]

    def counters(self):
        stats = {p["name"]: p for p in self.request("/v1/ports/stats")}
        source, sink = (stats[n] for n in self.names)
        bad = source["rx_missed"] + source["rx_errors"] + source["rx_nombuf"] + sink["tx_errors"]
        return source["rx_packets"], sink["tx_packets"], bad + self.accounting()["dropped"]


class Ovs(Dut):
    """Open vSwitch with DPDK and its VXLAN port: a flow per MAC, static neighbours, all in its exact-match cache."""

    worker_name = r"pmd-c\d+.*"
    underlay_mac = PCAP_MAC
    settings = {}  # more of other_config

    def __init__(self, lab, name, direction, number, world, flows, frames, sink=SINK, mtu=None):
        super().__init__(lab, None, name, direction)
        if not VSWITCHD.exists():
            raise Failure("Open vSwitch is missing: run `make deps`, which installs openvswitch-switch-dpdk")
        self.number, self.world, self.flows, self.sink, self.mtu = number, world, flows, sink, mtu
        self.memory = 192 + frames * 3200 // 2 ** 20
        self.dir = lab.dir / name
        self.dir.mkdir()
        self.env = {f"OVS_{k}DIR": str(self.dir) for k in ("RUN", "DB", "LOG", "SYSCONF")}
        self.env["RUNTIME_DIRECTORY"] = str(self.dir)
        self.ns = Namespace(lab, name)  # of its own: its bridges stay for a moment after its end
        self.phy, self.int = "phy", "int"

    def start(self):
        db = f"unix:{self.dir}/db.sock"
        self._call("ovsdb-tool", "create", self.dir / "conf.db", SCHEMA)
        Process(self.lab, f"{self.name}-db", ["ovsdb-server", self.dir / "conf.db", f"--remote=p{db}", "--pidfile",
                                              "--no-chdir"], self.ns, self.env).wait_socket(self.dir / "db.sock")
        settings = {"dpdk-init": "true", "dpdk-lcore-mask": "0x1", "pmd-cpu-mask": f"{1 << WORKER_CPU:#x}",
                    "dpdk-socket-mem": self.memory, "dpdk-socket-limit": self.memory,
                    "dpdk-extra": f'"--no-pci --in-memory --no-telemetry --file-prefix=so{self.lab.pid}{self.name}"',
                    **self.settings}
        self._vsctl("--no-wait", "--", "init", "--", "set", "Open_vSwitch", ".",
                    *[f"other_config:{k}={v}" for k, v in settings.items()])
        self.process = Process(self.lab, self.name, [VSWITCHD, db, "--pidfile", "--no-chdir"], self.ns, self.env)
        self.ctl = self.dir / f"ovs-vswitchd-dpdk.{self.process.pid}.ctl"
        self.process.wait_socket(self.ctl, timeout=30)
        vm, ul = self.interfaces()
        mtu = [f"mtu_request={self.mtu}"] if self.mtu else []
        self._vsctl(
            "add-br", self.phy, "--", "set", "Bridge", self.phy, "datapath_type=netdev", "fail_mode=secure",
            f'other_config:hwaddr="{mac_text(self.underlay_mac)}"', "--",
            "add-port", self.phy, "ul0", "--", "set", "Interface", "ul0", *ul, *mtu, "ofport_request=1", "--",
            "add-br", self.int, "--", "set", "Bridge", self.int, "datapath_type=netdev", "fail_mode=secure", "--",
            "add-port", self.int, "vx0", "--", "set", "Interface", "vx0", "type=vxlan", "options:remote_ip=flow",
            f"options:key={VNI}", f"ofport_request={TUNNEL}", "--",
            "add-port", self.int, "vm1", "--", "set", "Interface", "vm1", *vm, *mtu, "ofport_request=2")
        self.ns.address(self.phy, self.world.own_prefix(self.number))
        self.ns.ip("link", "set", self.phy, "up")
        w = self.world
        for h in range(w.hosts):
            self.request("tnl/neigh/set", self.phy, w.vtep(h), mac_text(w.host_mac(h)))
        self._flows(self.phy, self.underlay_flows())
        self._flows(self.int, self.tenant_flows())
        self.wait_traffic()
        return self.stop_until_turn()

    def underlay_flows(self):
        """OpenFlow rules between the underlay's port and the bridge itself."""
        match, pop, push = retag(self.world.kind.underlay_vlan)
        return [f"{match}in_port=1,actions={pop}LOCAL", f"in_port=LOCAL,actions={push}output:1"]

    def tenant_flows(self):
        """OpenFlow rules between the station's port and the tunnels: one for each MAC."""
        w, (match, pop, push) = self.world, retag(self.world.kind.trunk)
        destination = "tun_ipv6_dst" if w.kind.underlay == 6 else "tun_dst"
        mac, _, _ = w.own(self.number)
        return [f"dl_dst={mac_text(mac)},actions={push}output:2"] + [
            f"{match}dl_dst={mac_text(w.mac(n))},actions={pop}set_field:{w.vtep(w.host(n))}->{destination},"
            f"output:{TUNNEL}" for n in range(w.nodes)]

    def interfaces(self):
        """The types of the station's port and of the underlay's."""
        ends = [["type=dpdk", f"options:dpdk-devargs={v}"] for v in (source(self.flows), self.sink)]
        return ends if self.direction == "encap" else reversed(ends)

    def _flows(self, bridge, lines):
        self._call("ovs-ofctl", "replace-flows", f"unix:{self.dir}/{bridge}.mgmt", "-", stdin="\n".join(lines) + "\n")

    def _call(self, *argv, stdin=None):
        env = [f"{k}={v}" for k, v in self.env.items()]
        return self.ns.run("env", *env, *argv, stdin=stdin, timeout=60)

    def _vsctl(self, *argv):
        return self._call("ovs-vsctl", f"--db=unix:{self.dir}/db.sock", "--timeout=30", *argv)

    def request(self, command, *words):
        """As `ovs-appctl`, without a process: JSON-RPC 1.0."""
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(30)
            s.connect(str(self.ctl))
            s.sendall(json.dumps({"id": 0, "method": command, "params": list(words)}).encode())
            data = b""
            while True:
                data += s.recv(1 << 20)
                with contextlib.suppress(ValueError):
                    answer = json.loads(data)
                    break
        if answer.get("error"):
            raise Failure(f"{self.name}: {command} {' '.join(words)}: {answer['error']}")
        return answer["result"]

    def counters(self):
        output = self.request("dpctl/show", "-s")
        found = {}
        for m in re.finditer(r"port \d+: (\S+) .*((?:\n    .*)*)", output):
            rx = re.search(r"RX packets:(\d+) errors:(\d+) dropped:(\d+)", m[2])
            tx = re.search(r"TX packets:(\d+) errors:(\d+) dropped:(\d+)", m[2])
            found[m[1]] = [int(n) for r in (rx, tx) for n in (r.groups() if r else (0, 0, 0))]
        source, sink = ("vm1", "ul0") if self.direction == "encap" else ("ul0", "vm1")
        lost = int(re.search(r"lost:(\d+)", output)[1])
        return (found[source][0], found[sink][3],
                lost + found[source][1] + found[source][2] + found[sink][4] + found[sink][5])
