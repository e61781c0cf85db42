"""The programs under test: where they are, how they are configured and started, and what they report. Only this module
has their command lines and the shape of their JSON."""

import json
import os
import pathlib
import subprocess
import time

from ..lab import TARGET, Failure, info, sh
from ..lab.process import Process
from . import ron

BIN = pathlib.Path(os.environ.get("STOPOVER_BIN", TARGET / "release"))
MEMORY_MIB = 160  # hugepage memory of one appliance; 16384 mbufs of 2176 bytes and their headers need 40
RING = 2048  # frames that the kernel keeps for a port while a busy machine runs other processes
POLL_US = 10  # polling before the first sleep; longer polling takes time from the guests on the same two CPUs

# Drop reasons that point to an error of the appliance, if all frames that it receives are well-formed.
FAULTS = {"malformed", "headers_split", "no_headroom", "pool_empty", "tx_refused", "control_full", "outer_malformed",
          "outer_fragment", "outer_checksum", "bad_vxlan", "ecn_violation", "bad_checksum_offload", "inner_vlan",
          "no_tailroom", "seal_failed", "seal_exhausted", "bad_seal", "replayed", "plain_refused", "not_its_node"}


def program(name, target="build"):
    """Path of one of our binaries, or of a tool of the testbed. `target` is what `make` builds it by."""
    path = BIN / name
    if not path.exists():
        raise Failure(f"`{path}` is missing: run `make {target}`, or set STOPOVER_BIN to the folder that has it")
    return path


class Board:
    """A board process. It listens on a unix socket, which all namespaces of the run can reach."""

    def __init__(self, lab, ns=None):
        self._configure(lab)
        self.lab, self.ns = lab, ns
        self.init()
        self.start()

    def init(self):
        """Makes a new, empty store."""
        sh(program("stopover-bbs"), "init", self.config)

    def start(self):
        """Starts it, or starts it again, and waits until it listens."""
        self.process = Process(self.lab, "bbs", [program("stopover-bbs"), self.config], ns=self.ns,
                               env={"RUST_BACKTRACE": "1"})
        self.process.wait_socket(self.socket)

    @classmethod
    def configure(cls, lab):
        """A board that is configured but not started."""
        board = cls.__new__(cls)
        board._configure(lab)
        return board

    def _configure(self, lab):
        self.socket = lab.dir / "bbs.sock"
        self.endpoint = f"unix:{self.socket}"
        self.config = lab.dir / "bbs.ron"
        self.config.write_text(ron.dumps({"listen": [self.endpoint], "store": f"{lab.dir}/bbs.redb"}) + "\n")

    def cli(self, *argv):
        """`stopover ARGV` towards this board."""
        return sh(program("stopover"), "--board", self.endpoint, *argv)

    def json(self, *argv):
        """The same, decoded."""
        return json.loads(self.cli(*argv, "--json"))

    def add_host(self, name, vteps):
        """Declares a host that has no appliance."""
        self.cli("host", "add", name, *[w for v in vteps for w in ("--vtep", v)])

    def add_member(self, vni, host, segment):
        """Declares that a host receives a network's flooded frames."""
        self.cli("member", "add", vni, host, *(["--segment"] if segment else []))

    def add_node(self, vni, mac, host, ips):
        """Declares a station at such a host."""
        self.cli("node", "add", vni, mac, host, *[w for ip in ips for w in ("--ip", ip)])


class Appliance:
    """An appliance in namespace `ns`. Ports are added first; `start` writes the configuration and starts it."""

    def __init__(self, lab, name, ns, board=None, memory=MEMORY_MIB, lcores=2):
        self.lab, self.name, self.ns = lab, name, ns
        self.socket = lab.dir / f"{name}.sock"
        self.config = {
            "name": name,
            "eal": ["--no-pci", "--in-memory", "--file-prefix", f"so{lab.pid}{name}", "-m", str(memory), "--lcores", ""],
            "vdevs": [],
            "idle": ron.tagged("adaptive", cap_us=100, poll_us=POLL_US),
            "ctl": str(self.socket),
            "ports": [],
        }
        if board is not None:
            self.config["board"] = [board.endpoint]
        self.command = None  # the `stopover` of another build, if the appliance is of that build
        self.process = None
        self.cables = []  # (interface at the end of a cable, the tap joined to it)
        self.lcores(lcores)
        lab.post_mortem.append(self.save_counters)

    def lcores(self, count):
        """Sets the number of its lcores. Lcore 0 runs the control thread, the others forward; all may use both CPUs of a
        small machine."""
        self.config["eal"][-1] = ",".join(f"{n}@(0-1)" for n in range(count))

    def port(self, name, vdev, role, **more):
        """Adds a port on a vdev string; its device is the part before the first comma."""
        self.config["vdevs"].append(vdev)
        self.config["ports"].append({"name": name, "device": vdev.split(",")[0], **more, "role": role})

    def tap(self, name, iface, role, mac=None, **more):
        """Adds a port on a tap: the appliance makes the interface `iface` in its namespace when it starts."""
        n = sum(v.startswith("net_tap") for v in self.config["vdevs"])
        self.port(name, f"net_tap{n},iface={iface}{f',mac={mac}' if mac else ''}", role, **more)

    def cabled(self, name, iface, role, **more):
        """Adds a port on a cable that ends at `iface`: a tap, to which the kernel hands all frames of `iface` and back.
        On the way the kernel completes checksums, cuts segments and passes fragments; DPDK's packet socket does not."""
        tap = f"t-{iface}"
        self.cables.append((iface, tap))
        self.tap(name, tap, role, **more)

    def af_packet(self, name, iface, role, queues=1, **more):
        """Adds an underlay port on a network interface of the namespace."""
        n = sum(v.startswith("net_af_packet") for v in self.config["vdevs"])
        self.port(name, f"net_af_packet{n},iface={iface}", role, **more)
        self.queues(name, queues)

    def queues(self, name, count, ring=RING):
        """Sets the number of receive and transmit queues of an af_packet port, and the frames that each has room for.
        """
        port = next(p for p in self.config["ports"] if p["name"] == name)
        at = next(n for n, v in enumerate(self.config["vdevs"]) if v.split(",")[0] == port["device"])
        vdev = ",".join([*self.config["vdevs"][at].split(",")[:2], f"framecnt={ring}"])
        for key in ("rxq", "txq"):
            port.pop(key, None)
        if count > 1:
            vdev += f",qpairs={count}"
            port |= {"rxq": count, "txq": count}
        self.config["vdevs"][at] = vdev

    def vhost(self, name, socket, role, tso=False, pairs=1, client=False, **more):
        """Adds a vhost-user port that listens on `socket`, or connects to it as a `client`, with so many queue pairs."""
        n = sum(v.startswith("net_vhost") for v in self.config["vdevs"])
        options = (",tso=1" if tso else "") + (f",queues={pairs}" if pairs > 1 else "")
        options += ",client=1" if client else ""
        self.port(name, f"net_vhost{n},iface={socket}{options}", role, **more)

    def write(self, path=None):
        """Writes the configuration file, returns its path."""
        path = path or self.lab.dir / f"{self.name}.ron"
        path.write_text(ron.dumps(self.config) + "\n")
        (self.lab.logs / path.name).write_text(path.read_text())
        return path

    def start(self, binary=None, pipes=False, forwards=True):
        """Starts it, or starts it again, and waits until it answers the CLI and, with `forwards`, forwards. `binary` is
        started instead, if given."""
        self.process = Process(self.lab, self.name, [binary or program("stopover-appliance"), self.write()],
                               ns=self.ns, env={"RUST_BACKTRACE": "1"}, pipes=pipes)
        self.process.wait_socket(self.socket, timeout=30)
        self._join_cables()
        if forwards:
            self.wait_forwarding()
        return self

    def _join_cables(self):
        """Joins the taps that a process has made to their cables."""
        for iface, tap in self.cables:
            self.ns.ip("link", "set", tap, "txqueuelen", RING)
            self.ns.join(iface, tap)

    def begin_take_over(self):
        """Starts a process that is to take the place of the present one; returns it."""
        return Process(self.lab, f"{self.name}-next", [program("stopover-appliance"), "--take-over", self.write()],
                       ns=self.ns, env={"RUST_BACKTRACE": "1"})

    def end_take_over(self, process):
        """Waits until it has the place, and forwards."""
        if status := self.process.wait_end(30):
            raise Failure(f"{self.name} gave its place away and ended with status {status}; the end of its log:\n"
                          f"    {self.process.tail()}")
        self.process = process
        process.wait_socket(self.socket, timeout=30)
        self._join_cables()
        self.wait_forwarding()

    def wait_forwarding(self, timeout=60):
        """Waits until it has a snapshot and forwards."""
        end = time.monotonic() + timeout
        # An older build, started to compare with, may not report this.
        while not self.json("show", "board").get("forwarding", True):
            self.process.check()
            if time.monotonic() > end:
                raise Failure(f"after {timeout} s {self.name} does not forward: {self.json('show', 'board')}")
            time.sleep(0.02)

    def cli(self, *argv):
        """`stopover ARGV` towards this appliance."""
        return sh(self.command or program("stopover"), "--ctl", self.socket, *argv)

    def json(self, *argv):
        """The same, decoded."""
        return json.loads(self.cli(*argv, "--json"))

    def counter(self, name):
        """A total of `show fwd stats all`."""
        return int(_find(self.json("show", "fwd", "stats", "all"), name))

    def unaccounted(self, patience=3):
        """Frames that packet accounting cannot explain: |received - sent - held - dropped|. Waits for 0."""
        end, last = time.monotonic() + patience, None
        while True:
            last = abs(self.counter("unaccounted"))
            if last == 0 or time.monotonic() > end:
                return last
            time.sleep(0.2)

    def faulty_drops(self):
        """Frames dropped for reasons that well-formed traffic does not have."""
        total = 0
        for d in self.json("show", "drops"):
            if d["reason"] in FAULTS and d["count"]:
                info(f"{self.name} dropped {d['count']} frames as {d['reason']}: {d['explanation']}")
                total += d["count"]
        return total

    def drops(self):
        """Frames dropped, by reason."""
        return {d["reason"]: d["count"] for d in self.json("show", "drops")}

    def tunnels(self):
        """The rows of `show tunnels`, by host."""
        return {row["host"]: row for row in self.json("show", "tunnels")}

    def save_counters(self):
        """Saves its counters and tables beside the logs."""
        with open(self.lab.logs / f"{self.name}-counters.txt", "w") as f:
            for words in ("fwd stats all", "port stats all", "port info all", "drops", "lcores", "nodes", "hosts",
                          "networks", "board", *(("tunnels", "sas") if "tunnels" in self.config else ())):
                try:
                    text = self.cli("show", *words.split())
                except (Failure, subprocess.TimeoutExpired) as e:
                    text = f"{e}\n"
                f.write(f"$ stopover show {words}\n{text}\n")


def _find(value, key):
    """The first value of `key` anywhere in decoded JSON."""
    if isinstance(value, dict):
        if key in value:
            return value[key]
        value = list(value.values())
    if isinstance(value, list):
        for v in value:
            found = _find(v, key)
            if found is not None:
                return found
    return None


def addresses(node_rows):
    """The (VNI, IP) pairs of decoded `show nodes`."""
    return {(int(r["vni"]), ip) for r in node_rows for ip in r["ips"]}


def accounting(appliances, hostile=False):
    """Figures over all appliances: `unaccounted` frames and, unless the traffic was hostile, `faulty_drops`. Saves
    their tables and counters beside the logs."""
    figures = {"unaccounted": 0} if hostile else {"unaccounted": 0, "faulty_drops": 0}
    for a in appliances:
        a.process.check()
        n = a.unaccounted()
        if n:
            info(f"{a.name} cannot account for {n} frames")
        a.save_counters()
        figures["unaccounted"] += n
        if not hostile:
            figures["faulty_drops"] += a.faulty_drops()
    return figures


def wait_nodes(appliances, expected, timeout=20, or_more=False):
    """Waits until every appliance has exactly so many nodes (or more)."""
    end = time.monotonic() + timeout
    while True:
        known = {a.name: len(a.json("show", "nodes")) for a in appliances}
        if all(n == expected or (or_more and n > expected) for n in known.values()):
            return
        for a in appliances:
            a.process.check()
        if time.monotonic() > end:
            raise Failure(f"after {timeout} s the appliances have {known} nodes; {expected} were expected at each")
        time.sleep(0.1)
