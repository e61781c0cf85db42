"""Linux's own vxlan device and bridge as the VTEP at the far end."""

from ..lab.netns import Namespace, veth


class LinuxHost:
    """A host with an underlay interface, a vxlan device and a bridge. It sends what it does not know to the VTEP
    `remote`, and learns from what it receives."""

    def __init__(self, lab, fabric, name, vni, vtep, remote):
        self.name, self.vni, self.vtep = name, vni, vtep
        self.ns = Namespace(lab, name)
        veth(self.ns, "ul0", fabric.switch, f"port-{name}", mtu=fabric.mtu)
        fabric.switch.no_ipv6(f"port-{name}")
        fabric.switch.ip("link", "set", f"port-{name}", "master", "br0")
        self.ns.address("ul0", f"{vtep}/{64 if ':' in vtep else 24}")
        self.ns.bridge("br0", mtu=1500)
        self.ns.ip("link", "add", "vx0", "mtu", 1500, "type", "vxlan", "id", vni, "local", vtep, "remote", remote,
                   "dstport", 4789, "dev", "ul0", "ttl", 64)
        self.ns.no_ipv6("vx0")
        self.ns.ip("link", "set", "vx0", "master", "br0")
        self.ns.ip("link", "set", "vx0", "up")

    def plug(self, tenant):
        """Connects a tenant to the bridge."""
        dev = f"st{tenant.id}"
        veth(tenant.ns, "eth0", self.ns, dev, a_mac=tenant.mac)
        self.ns.no_ipv6(dev)
        self.ns.ip("link", "set", dev, "master", "br0")
        tenant.ns.address("eth0", *tenant.cidrs)
