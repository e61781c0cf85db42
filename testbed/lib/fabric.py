"""The lab's shape: hosts, each a namespace with an appliance in it, joined by an underlay switch; tenants, each a
namespace with one interface `eth0`, cabled to a host or to a bridge behind one.

    tenant eth0 ── vm0 [host: appliance] ul0 ── port [switch: br0] ── ... other hosts
"""

from . import ron
from .net import Namespace, veth, wire_to_bridge
from .stopover import Appliance
from .traffic import Station

VTEP4, VTEP6 = "10.0.0.{}", "fd00::{}"


class Fabric:
    """The underlay switch and the numbering of hosts."""

    def __init__(self, lab, mtu=1600):
        self.lab, self.mtu = lab, mtu
        self.switch = Namespace(lab, "switch")
        self.switch.bridge("br0")
        self.hosts = []

    def host(self, name, board, v4=True, v6=True, mtu=None, **underlay):
        """A host with an appliance whose underlay port `ul0` owns VTEP addresses 10.0.0.N and fd00::N."""
        number = len(self.hosts) + 1
        ns = Namespace(self.lab, f"host-{name}")
        wire_to_bridge(ns, "ul0", self.switch, "br0", f"port{number}", mtu=self.mtu)
        a = Appliance(self.lab, name, ns, board)
        a.number = number
        a.vteps = [VTEP4.format(number)] * v4 + [VTEP6.format(number)] * v6
        with_length = [f"{v}/64" if ":" in v else f"{v}/24" for v in a.vteps]
        a.af_packet("ul0", "ul0", ron.tagged("underlay", addresses=with_length, **underlay), mtu=mtu or self.mtu)
        self.hosts.append(a)
        return a


class Tenant(Station):
    """A station in a namespace of its own; `ips` with prefix length."""

    def __init__(self, lab, name, number, vni, mac, ips):
        super().__init__(Namespace(lab, name), number, vni, [ip.split("/")[0] for ip in ips])
        self.vni, self.mac, self.cidrs = vni, mac, ips

    def plug_vif(self, appliance, guard=True, **more):
        """A vif port of the appliance, cabled to this tenant."""
        dev = f"vm{self.id}"
        veth(self.ns, "eth0", appliance.ns, dev, a_mac=self.mac)
        appliance.ns.no_ipv6(dev)
        appliance.af_packet(dev, dev, ron.tagged("vif", vni=self.vni, mac=self.mac, addresses=self.ips, guard=guard),
                            **more)
        return self._up()

    def plug_bridge(self, site, bridge, vlan=None):
        """A port of a Linux bridge; with `vlan`, an access port of that VLAN."""
        dev = f"st{self.id}"
        veth(self.ns, "eth0", site, dev, a_mac=self.mac)
        site.no_ipv6(dev)
        site.ip("link", "set", dev, "master", bridge)
        if vlan:
            site.run("bridge", "vlan", "del", "dev", dev, "vid", 1)
            site.run("bridge", "vlan", "add", "dev", dev, "vid", vlan, "pvid", "untagged")
        return self._up()

    def _up(self):
        self.ns.address("eth0", *self.cidrs)
        return self


def trunk(lab, appliance, name, vlans, stations):
    """A site behind one segment port: a VLAN-aware Linux bridge whose trunk `up0` ends at the appliance. `vlans`
    maps VLAN to VNI, `stations` are those declared in the configuration. Returns the site's namespace; its
    bridge is `br0`."""
    site = Namespace(lab, name)
    site.bridge("br0")
    site.ip("link", "set", "br0", "type", "bridge", "vlan_filtering", 1)
    veth(site, "up0", appliance.ns, f"tr-{name}")
    appliance.ns.no_ipv6(f"tr-{name}")
    site.no_ipv6("up0")
    site.ip("link", "set", "up0", "master", "br0")
    site.run("bridge", "vlan", "del", "dev", "up0", "vid", 1)
    for vlan in vlans:
        site.run("bridge", "vlan", "add", "dev", "up0", "vid", vlan)
    declared = [{"mac": s.mac, "vni": s.vni, "addresses": s.ips} for s in stations]
    role = ron.tagged("segment", vlans=ron.Map(vlans), **({"stations": declared} if declared else {}))
    appliance.af_packet(f"tr-{name}", f"tr-{name}", role)
    return site
