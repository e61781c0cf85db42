"""Frames that the lab itself lost, outside of the programs under test: in the kernel's queue between the two ends of a
cable, and in the receive ring of a port on a network interface, which is the kernel's until the appliance takes a
frame from it. Neither shows in an appliance's accounting.

    wires = Wires([host.ns, switch])
    wires.lost()            since it was made
    rings(appliance)        of each receive ring of an appliance: interface, frames received, frames lost
"""

import ctypes
import os
import pathlib
import socket
import struct

SOL_PACKET, PACKET_STATISTICS = 263, 6
PIDFD_GETFD = 438  # the system call's number, the same on every architecture


class Wires:
    """The cables of some namespaces."""

    def __init__(self, namespaces):
        self.namespaces = namespaces
        self.before = self._count()

    def lost(self):
        """Frames lost between the ends of cables since this was made, by place."""
        now = self._count()
        return {place: n - self.before.get(place, 0) for place, n in now.items() if n != self.before.get(place, 0)}

    def _count(self):
        counts = {}
        for ns in self.namespaces:
            for line in ns.run("cat", "/proc/net/dev").splitlines()[2:]:
                dev, numbers = line.split(":")
                f = numbers.split()
                counts[f"{ns.name} {dev.strip()}"] = int(f[3]) + int(f[11])
        return counts


def rings(appliance):
    """Each ring's interface, how many frames the kernel put into it, and how many found it full; since it was last
    asked. The kernel keeps these counts for whoever holds the socket, so we borrow it."""
    pid = appliance.process.pid
    names = {line.split(":")[0].strip(): line.split(":")[1].strip()
             for line in appliance.ns.run("ip", "-o", "link").splitlines()}
    rows = [line.split() for line in pathlib.Path(f"/proc/{pid}/net/packet").read_text().splitlines()[1:]]
    of_inode = {row[8]: names.get(row[4], row[4]).split("@")[0] for row in rows}
    found = []
    pidfd = os.pidfd_open(pid)
    try:
        for fd in sorted(pathlib.Path(f"/proc/{pid}/fd").iterdir(), key=lambda p: int(p.name)):
            inode = os.readlink(fd).removeprefix("socket:[").removesuffix("]")
            if inode in of_inode:
                found.append((of_inode[inode], *_statistics(pidfd, int(fd.name))))
    finally:
        os.close(pidfd)
    return found


def _statistics(pidfd, fd):
    """(received, lost) of a packet socket in another process."""
    copy = ctypes.CDLL(None, use_errno=True).syscall(PIDFD_GETFD, pidfd, fd, 0)
    if copy < 0:
        raise OSError(ctypes.get_errno(), "borrowing a packet socket")
    with socket.socket(fileno=copy) as s:
        packets, drops = struct.unpack_from("II", s.getsockopt(SOL_PACKET, PACKET_STATISTICS, 12))
    return packets - drops, drops
