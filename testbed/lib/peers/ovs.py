"""Debian's Open vSwitch with DPDK, to measure beside ours. It is not a part of Stopover.

Each host has an `ovsdb-server` and an `ovs-vswitchd-dpdk` in its namespace; database, sockets and pid files are in a
folder of the run, and hugepages have no files. The service of Debian's package is not needed: it is stopped if it runs
without bridges. A service with bridges stays.

    guest ── vhost-user ── [br-int] ── VXLAN ── [br-phy, which owns the VTEP] ── ul0 ── the fabric's switch

Each host has a static flow per MAC, to a local port or to the VTEP of the MAC's host. The af_packet driver reports a
largest frame of 1518 bytes and Open vSwitch enforces it, so the frames of guests have at most 1464 bytes.
"""

import concurrent.futures
import os
import pathlib
import re
import shutil

from ..lab import Failure, info, sh
from ..lab.fabric import MAC, VTEP4
from ..lab.netns import Namespace, veth, wire_to_bridge
from ..lab.process import Process

VSWITCHD = pathlib.Path("/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk")
SCHEMA = "/usr/share/openvswitch/vswitch.ovsschema"
MEMORY_MIB = 192  # hugepage memory of one instance: room for 32768 mbufs of 3 KiB, and the sockets' rings
TUNNEL = 1  # OpenFlow number of the VXLAN port; those of guests follow
NICE = 5  # of the threads that always poll, for the sake of guests on the same two CPUs


class Ovs:
    """The Open vSwitch of a host. Its underlay port `ul0` has VTEP 10.0.0.N, as the port of an appliance would."""

    def __init__(self, lab, fabric, name):
        if not VSWITCHD.exists():
            raise Failure("Open vSwitch is missing: run `make deps`, which installs openvswitch-switch-dpdk")
        fabric.hosts.append(self)
        self.lab, self.name, self.number = lab, name, len(fabric.hosts)
        self.vtep, self.mac = VTEP4.format(self.number), MAC.format(self.number)
        self.ns = Namespace(lab, f"host-{name}")
        wire_to_bridge(self.ns, "ul0", fabric.switch, "br0", f"port{self.number}", mtu=fabric.mtu, mac=self.mac)
        self.dir = lab.dir / name
        self.dir.mkdir()
        self.env = {f"OVS_{k}DIR": str(self.dir) for k in ("RUN", "DB", "LOG", "SYSCONF")}
        self.env["RUNTIME_DIRECTORY"] = str(self.dir)  # else DPDK leaves a folder in /var/run/dpdk
        self.db = f"unix:{self.dir}/db.sock"
        self.ports, self.process = {}, None
        lab.post_mortem.append(self.save_counters)

    def start(self, vni):
        """Starts database and switch, and makes both bridges. `vni` is the only network."""
        self._call("ovsdb-tool", "create", self.dir / "conf.db", SCHEMA)
        self.database = Process(self.lab, f"{self.name}-db", [
            "ovsdb-server", self.dir / "conf.db", f"--remote=p{self.db}", "--pidfile", "--no-chdir"], self.ns, self.env)
        self.database.wait_socket(self.dir / "db.sock")
        self._vsctl("--no-wait", "init")
        cpu = 1 << (self.number - 1) % os.cpu_count()
        settings = {
            "dpdk-init": "true", "pmd-cpu-mask": f"{cpu:#x}",
            "dpdk-socket-mem": MEMORY_MIB, "dpdk-socket-limit": MEMORY_MIB,
            "dpdk-extra": f'"--no-pci --in-memory --no-telemetry --file-prefix=so{self.lab.pid}{self.name}"',
        }
        self._vsctl("--no-wait", "set", "Open_vSwitch", ".", *[f"other_config:{k}={v}" for k, v in settings.items()])
        self.process = Process(self.lab, self.name, [VSWITCHD, self.db, "--pidfile", "--no-chdir"], self.ns, self.env)
        self.process.wait_socket(self.dir / f"ovs-vswitchd-dpdk.{self.process.pid}.ctl", timeout=30)
        self._vsctl(
            "add-br", "br-phy", "--", "set", "Bridge", "br-phy", "datapath_type=netdev",
            f'other_config:hwaddr="{self.mac}"', "--",
            "add-port", "br-phy", "ul0p", "--", "set", "Interface", "ul0p", "type=dpdk",
            "options:dpdk-devargs=net_af_packet0,iface=ul0,framecnt=2048", "--",
            "add-br", "br-int", "--", "set", "Bridge", "br-int", "datapath_type=netdev", "fail_mode=secure", "--",
            "add-port", "br-int", "vx0", "--", "set", "Interface", "vx0", "type=vxlan", "options:remote_ip=flow",
            f"options:key={vni}", f"ofport_request={TUNNEL}")
        self.ns.address("br-phy", f"{self.vtep}/24")
        self.ns.ip("link", "set", "br-phy", "up")
        return self

    def neighbours(self, hosts):
        """Sets the MACs of the other VTEPs, so that no frame waits for ARP on the underlay."""
        for h in hosts:
            if h is not self:
                self._appctl("tnl/neigh/set", "br-phy", h.vtep, h.mac)

    def vhost(self, name):
        """Adds a vhost-user port for a guest; returns its socket."""
        self._port(name, "type=dpdkvhostuser")
        path = self.dir / name
        self.process.wait_socket(path)
        self._gentle()
        return path

    def tenant(self, tenant):
        """Adds a port for a fabric.Tenant."""
        dev = f"vm{tenant.id}"
        veth(tenant.ns, "eth0", self.ns, dev, a_mac=tenant.mac)
        self.ns.no_ipv6(dev)
        self._port(tenant.name, "type=dpdk", f"options:dpdk-devargs=net_af_packet{tenant.id},iface={dev},framecnt=2048")
        tenant.ns.address("eth0", *tenant.cidrs)

    def _port(self, name, *what):
        self.ports[name] = TUNNEL + 1 + len(self.ports)
        self._vsctl("add-port", "br-int", name, "--", "set", "Interface", name, *what,
                    f"ofport_request={self.ports[name]}")

    def flows(self, nodes, hosts):
        """Replaces all flows. `nodes` are (mac, host, port name); group frames go to every port of every host."""
        local = [f"output:{p}" for p in self.ports.values()]
        remote = [f"set_field:{h.vtep}->tun_dst,output:{TUNNEL}" for h in hosts if h is not self]
        lines = [f"priority=20,in_port={TUNNEL},dl_dst=01:00:00:00:00:00/01:00:00:00:00:00,"
                 f"actions={','.join(local) or 'drop'}",
                 "priority=10,dl_dst=01:00:00:00:00:00/01:00:00:00:00:00,"
                 f"actions={','.join(local + remote) or 'drop'}"]
        lines += [self._flow(mac, host, port) for mac, host, port in nodes]
        self._call("ovs-ofctl", "replace-flows", self._bridge(), "-", stdin="\n".join(lines) + "\n")

    def point(self, mac, host, port):
        """Changes the flow of one MAC to another host, as an operator's automation does after a migration."""
        self._call("ovs-ofctl", "add-flow", self._bridge(), self._flow(mac, host, port))

    def _flow(self, mac, host, port):
        where = f"output:{self.ports[port]}" if host is self else f"set_field:{host.vtep}->tun_dst,output:{TUNNEL}"
        return f"priority=5,dl_dst={mac},actions={where}"

    def _bridge(self):
        return f"unix:{self.dir}/br-int.mgmt"

    def _gentle(self):
        """Lets the polling threads use any CPU, at a lower priority. Open vSwitch pins them, and 3.1 cannot let them
        sleep."""
        for task in pathlib.Path(f"/proc/{self.process.pid}/task").iterdir():
            if re.match(r"pmd-", (task / "comm").read_text()):
                os.sched_setaffinity(int(task.name), range(os.cpu_count()))
                os.setpriority(os.PRIO_PROCESS, int(task.name), NICE)

    def _call(self, *argv, stdin=None):
        return sh("env", *[f"{k}={v}" for k, v in self.env.items()], *argv, stdin=stdin, timeout=30)

    def _vsctl(self, *argv):
        return self._call("ovs-vsctl", f"--db={self.db}", "--timeout=20", *argv)

    def _appctl(self, *argv):
        return self._call("ovs-appctl", "-t", self.dir / f"ovs-vswitchd-dpdk.{self.process.pid}.ctl", *argv)

    def save_counters(self):
        """Saves its counters and flows beside the logs."""
        if not self.process or not self.process.alive():
            return
        with open(self.lab.logs / f"{self.name}-counters.txt", "w") as f:
            for argv in (["ovs-vsctl", f"--db={self.db}", "show"],
                         ["ovs-vsctl", f"--db={self.db}", "--columns=name,ofport,error,link_state,statistics", "list",
                          "Interface"],
                         ["ovs-ofctl", "dump-flows", self._bridge()]):
                try:
                    text = self._call(*argv)
                except Failure as e:
                    text = f"{e}\n"
                f.write(f"$ {' '.join(argv)}\n{text}\n")


def quiet_service():
    """Stops the machine's own Open vSwitch service if it has no bridges."""
    service = "openvswitch-switch"
    if not shutil.which("systemctl") or sh("systemctl", "is-active", service, check=False).strip() != "active":
        return
    try:
        bridges = sh("ovs-vsctl", "--timeout=5", "list-br").strip()
    except Failure:
        return  # it does not answer, so it may have bridges
    if not bridges:
        info("stopping the Open vSwitch service of this machine: it has no bridges")
        sh("systemctl", "stop", service)


def everywhere(hosts, act):
    """Calls `act(host)` for all hosts at once."""
    with concurrent.futures.ThreadPoolExecutor(len(hosts)) as pool:
        for _ in pool.map(act, hosts):
            pass
