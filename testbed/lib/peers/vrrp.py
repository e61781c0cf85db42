"""keepalived processes that share virtual addresses. A file of each sets its priority."""

import signal

from ..lab.process import Process

CONFIG = """
global_defs {{
    router_id {name}
    vrrp_version 3
}}
vrrp_track_file priority {{
    file "{file}"
}}
{instances}
"""
INSTANCE = """
vrrp_instance v{family} {{
    interface eth0
    state BACKUP
    version 3
    virtual_router_id {vrid}
    priority 100
    advert_int 0.1
    track_file {{
        priority weight 1
    }}
    virtual_ipaddress {{
        {addresses}
    }}
}}
"""
BEHIND, AHEAD = 0, 50  # added to the priority


class Keepalived:
    """A daemon in the namespace of a tenant, with a VRRP instance for each family. `v4`, `v6`: the virtual addresses.
    """

    def __init__(self, lab, tenant, v4, v6):
        self.lab, self.tenant = lab, tenant
        self.file = lab.dir / f"{tenant.name}.priority"
        self.rank(BEHIND)
        # VRRP over IPv6 needs a link-local address first (RFC 5798 section 5.2.9).
        lists = ((4, 51, [f"{v4}/24"]), (6, 52, ["fe80::100/64", f"{v6}/64"]))
        instances = "".join(INSTANCE.format(family=f, vrid=vrid, addresses="\n        ".join(ips))
                            for f, vrid, ips in lists)
        self.config = lab.dir / f"{tenant.name}.keepalived"
        self.config.write_text(CONFIG.format(name=tenant.name, file=self.file, instances=instances))
        self.start()

    def start(self):
        """Starts it, or starts it again."""
        pids = [self.lab.dir / f"{self.tenant.name}.{kind}.pid" for kind in ("parent", "vrrp")]
        self.process = Process(self.lab, f"keepalived-{self.tenant.name}",
                               ["keepalived", "--dont-fork", "--log-console", "--vrrp", "--use-file", self.config,
                                "--pid", pids[0], "--vrrp_pid", pids[1]], ns=self.tenant.ns)

    def rank(self, added):
        """Sets what is added to its priority, at once."""
        self.file.write_text(f"{added}\n")

    def resign(self):
        """Begins an orderly end: it releases its addresses at once and ends within a second."""
        self.process.popen.send_signal(signal.SIGTERM)

    def stop(self):
        """Ends it in order."""
        self.resign()
        self.process.wait_end(10)
