"""Frames that the lab itself lost, outside of the programs under test. The kernel loses frames in its queue between the
two ends of a cable, and in the receive ring of a port on a network interface, before the appliance takes them. Packet
accounting shows neither.

    cables = Cables([host.ns, switch])
    cables.lost()           frames lost since then, by place
    rings(appliance)        of each receive ring: interface, frames received, frames lost
"""

import ctypes
import os
import pathlib
import socket
import struct

SOL_PACKET, PACKET_STATISTICS = 263, 6
PIDFD_GETFD = 438  # the system call's number, the same on every architecture


class Cables:
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
    """Of each ring: its interface, how many frames the kernel put into it, and how many found it full, since the last
    call. The kernel gives these counts to the owner of the socket, so the socket is duplicated into this process."""
    pid = appliance.process.pid
    names = {line.split(":")[0].strip(): line.split(":")[1].strip()
             for line in appliance.ns.run("ip", "-o", "link").splitlines()}
    rows = [line.split() for line in pathlib.Path(f"/proc/{pid}/net/packet").read_text().splitlines()[1:]]
    of_inode = {row[8]: names.get(row[4], row[4]).split("@")[0] for row in rows}
    found = []
    pidfd = os.pidfd_open(pid)
    try:
        for fd in sorted(pathlib.Path(f"/proc/{pid}/fd").iterdir(), key=lambda p: int(p.name)):
            try:
                inode = os.readlink(fd).removeprefix("socket:[").removesuffix("]")
            except FileNotFoundError:  # it was closed meanwhile
                continue
            if inode in of_inode:
                found.append((of_inode[inode], *_statistics(pidfd, int(fd.name))))
    finally:
        os.close(pidfd)
    return found


def _statistics(pidfd, fd):
    """(received, lost) of a packet socket in another process."""
    copy = ctypes.CDLL(None, use_errno=True).syscall(PIDFD_GETFD, pidfd, fd, 0)
    if copy < 0:
        raise OSError(ctypes.get_errno(), "duplicating a packet socket")
    with socket.socket(fileno=copy) as s:
        packets, drops = struct.unpack_from("II", s.getsockopt(SOL_PACKET, PACKET_STATISTICS, 12))
    return packets - drops, drops
