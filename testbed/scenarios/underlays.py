#!/usr/bin/python3
"""Two hosts change their underlay port while VMs send to each other: no datagram is lost.

Each host has two cables to the underlay switch. In turn a host changes, by `stopover reload`, to another underlay port:
the other cable, other VTEP addresses. The new port comes before the old one goes. Then it changes back. A port that is
the last, or that the other host needs, is not removed. VMs on the hosts exchange UDP streams over both IP versions
all the time.

STOPOVER_CYCLES: how often each host changes to and fro.
"""

import json
import os
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from lib import scenario
from lib.guests.guest import Shell
from lib.lab import Failure, fabric, info
from lib.lab.netns import wire_to_bridge
from lib.product import ron, stopover
from lib.traffic.stream import Receiver, Sender

CYCLES = int(os.environ.get("STOPOVER_CYCLES", 2 if scenario.SHORT else 10))
RATE = 2000  # datagrams per second of each stream
VNI = 100


class Host:
    """A host of the fabric, with a second cable, and its VM."""

    def __init__(self, lab, net, board, name):
        self.gw = net.host(name, board)
        n = self.gw.number
        wire_to_bridge(self.gw.ns, "ul1", net.switch, "br0", f"spare{n}", mtu=net.mtu, mac=fabric.MAC.format(n + 16))
        options = self.gw.config["vdevs"].pop().split(",", 2)[2]
        self.gw.config["ports"].pop()
        self.underlays = [self.underlay(f"ul{k}", options, net.mtu, n + 16 * k) for k in (0, 1)]
        self.gw.config["ports"].append(self.underlays[0])
        self.tenant = fabric.Tenant.numbered(lab, f"vm-{name}", VNI, n).plug_vif(self.gw)

    @staticmethod
    def underlay(name, options, mtu, n):
        """An underlay port on the interface of its name."""
        addresses = [f"{fabric.VTEP4.format(n)}/24", f"{fabric.VTEP6.format(n)}/64"]
        return {"name": name, "device": f"net_af_packet{name[-1]},iface={name},{options}", "mtu": mtu,
                "role": ron.tagged("underlay", addresses=addresses)}

    def reload(self, underlays):
        """Changes to these underlay ports."""
        others = [port for port in self.gw.config["ports"] if not port["name"].startswith("ul")]
        self.gw.config["ports"] = [*underlays, *others]
        self.gw.write()
        return json.loads(self.gw.cli("reload", "--json"))

    def change(self):
        """Changes to the other underlay port."""
        self.underlays.reverse()
        self.reload(self.underlays[:1])

    def refuses_to_lose_the_last(self):
        """Whether it keeps its last underlay port."""
        try:
            self.reload([])
        except Failure as e:
            return "it is the last underlay port" in str(e)
        return False

    def path(self):
        """How it reaches the other host."""
        other = next(h for h in self.gw.json("show", "hosts") if not h["own"])
        return other["path"]["port"], other["path"]["vtep"]


def body(lab):
    lab.hugepages(2 * stopover.MEMORY_MIB + 64)
    board, net = stopover.Board(lab), fabric.Fabric(lab)
    hosts = [Host(lab, net, board, name) for name in ("gw-a", "gw-b")]
    for host in hosts:
        host.gw.start()
    stopover.wait_nodes(net.hosts, 2)
    shells = [Shell(lab, host.tenant.ns) for host in hosts]
    receivers = [Receiver(shell) for shell in shells]
    senders = [{k: Sender(shell, ip, stream=k, rate=RATE) for k, ip in enumerate(hosts[1 - n].tenant.ips)}
               for n, shell in enumerate(shells)]
    wrong = 0
    for n in range(2 * CYCLES):
        for k, host in enumerate(hosts):
            host.change()
            port, vtep = host.path()
            if port != host.underlays[0]["name"]:
                wrong += 1
                info(f"{host.gw.name} still sends by {port}")
            seen = hosts[1 - k].path()[1]
            own = host.underlays[0]["role"]
            info(f"change {n}: {host.gw.name} sends by {port} to {vtep}; the other host sends to {seen}")
            if f'"{seen}/' not in ron.dumps(own):
                wrong += 1
    kept = sum(host.refuses_to_lose_the_last() for host in hosts)
    totals = {"lost": 0, "duplicated": 0, "reordered": 0, "sent": 0}
    for n, receiver in enumerate(receivers):
        sent = {k: s.stop()["sent"] for k, s in senders[1 - n].items()}
        tally = receiver.tally(sent)
        totals["sent"] += sum(sent.values())
        for key in ("lost", "duplicated", "reordered"):
            totals[key] += tally[key]
    return {"changes": 4 * CYCLES, **totals, "wrong_paths": wrong, "last_not_kept": len(hosts) - kept,
            **stopover.accounting(net.hosts)}


scenario.main("underlays", body,
              must_be_zero=["lost", "duplicated", "reordered", "wrong_paths", "last_not_kept", "unaccounted",
                            "faulty_drops"],
              must_be_positive=["sent"])
