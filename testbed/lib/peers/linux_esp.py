"""Linux's own ESP (transport mode) and VXLAN, in a virtual machine with keys given by hand, in the place of a host.

The machine's kernel sends and receives ESP as an IP protocol of its own: to put it into UDP it would need a socket of a program,
on the port that its VXLAN has already. So the UDP header is put before the ESP header, and taken off, on the cable of the
machine. What is sealed is not touched.
"""

import pathlib
import re
import shutil
import socket
import stat
import struct
import threading
import types

from ..guests import guest
from ..lab import sh
from ..lab.fabric import MAC, VTEP4
from ..lab.netns import Namespace, wire_to_bridge
from ..lab.process import Process, listens
from ..traffic.frames import checksum

ESP, UDP = 50, 17
PORT, SOURCE_PORT = 4789, 50_000
OUTGOING = 4  # PACKET_OUTGOING of Linux: a frame that this side sent
AEAD = "'rfc4106(gcm(aes))'"
IP = "/sbin/ip"  # of iproute2: busybox has no xfrm


def _with_iproute(lab):
    """The kernel and an initramfs with iproute2 and its libraries."""
    kernel, base = guest.initramfs(lab)
    program = shutil.which("ip")
    libraries = re.findall(r"(/\S+) \(0x", sh("ldd", program))
    files = {IP: program, **{path: path for path in libraries}}
    folders = sorted({str(folder)[1:] for path in files for folder in pathlib.Path(path).parents if str(folder) != "/"})
    entries = [(folder, stat.S_IFDIR | 0o755, b"", (0, 0)) for folder in folders]
    entries += [(path[1:], stat.S_IFREG | 0o755, pathlib.Path(source).read_bytes(), (0, 0)) for path, source in files.items()]
    path = lab.dir / "initramfs-iproute.cpio"
    path.write_bytes(base.read_bytes() + guest.cpio(entries))
    return kernel, path


def _with_header(frame, protocol, more, payload):
    """An IPv4 frame with another protocol and payload, whose length differs by `more`."""
    length = struct.unpack_from("!H", frame, 16)[0] + more
    header = frame[14:16] + struct.pack("!H", length) + frame[18:23] + bytes([protocol, 0, 0]) + frame[26:34]
    return frame[:14] + header[:10] + struct.pack("!H", checksum(header)) + header[12:] + payload


def in_udp(frame):
    """A frame of the machine as it goes onto the wire."""
    if frame[12:15] != b"\x08\x00\x45" or frame[23] != ESP:
        return frame
    esp = frame[34:14 + struct.unpack_from("!H", frame, 16)[0]]
    return _with_header(frame, UDP, 8, struct.pack("!HHHH", SOURCE_PORT, PORT, 8 + len(esp), 0) + esp)


def out_of_udp(frame):
    """A frame of the wire as the machine gets it."""
    if frame[12:15] != b"\x08\x00\x45" or frame[23] != UDP or frame[36:38] != struct.pack("!H", PORT) or frame[42] < 0xC0:
        return frame
    return _with_header(frame, ESP, -8, frame[42:14 + struct.unpack_from("!H", frame, 16)[0]])


class LinuxEsp(guest.Guest):
    """The machine, with host `number`'s address and MAC on its `eth0`. It boots while other things are done."""

    def __init__(self, lab, fabric, number):
        self.lab, self.name, self.received, self.number = lab, "linux", b"", number
        self.ns = Namespace(lab, "linux")
        wire_to_bridge(self.ns, "eth0", fabric.switch, "br0", "port-linux", mtu=fabric.mtu)
        self.wire = self.ns.packet_socket("eth0", receive=True)
        ours, self.theirs, cmd, qmp = (lab.dir / f"linux.{kind}" for kind in ("wire", "nic", "cmd", "qmp"))
        self.nic = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.nic.bind(str(ours))
        argv = [*guest.hardware(*_with_iproute(lab), cmd, qmp),
                "-netdev", f"dgram,id=n0,local.type=unix,local.path={self.theirs},remote.type=unix,remote.path={ours}",
                "-device", f"virtio-net-pci,netdev=n0,mac={MAC.format(number)},romfile=,vectors=0"]
        process = Process(lab, "guest-linux", argv)
        process.wait_for("its command channel", lambda: listens(qmp), 15)
        line = socket.socket(socket.AF_UNIX)
        line.connect(str(cmd))
        self.machine = types.SimpleNamespace(process=process, line=line)
        for copy in (self._outwards, self._inwards):
            threading.Thread(target=copy, daemon=True).start()

    def _outwards(self):
        while True:
            try:
                self.wire.send(in_udp(self.nic.recv(65_536)))
            except OSError:
                return

    def _inwards(self):
        while True:
            try:
                frame, source = self.wire.recvfrom(65_536)
                if source[2] != OUTGOING:
                    self.nic.sendto(out_of_udp(frame), str(self.theirs))
            except OSError:
                return

    def configure(self, other, out, inward, vni, station):
        """Its two SAs with host number `other`, each (SPI, key with salt, number of the last frame), and a `station` on it."""
        here, there = VTEP4.format(self.number), VTEP4.format(other)
        for module in guest.ESP_MODULES:
            self.run(f"insmod /modules/{module}.ko")
        self.run(f"{IP} link set eth0 mtu 1600")
        self.address(f"{here}/24")
        for number, (source, to, way, (spi, key, last)) in enumerate(((here, there, "out", out), (there, here, "in", inward)), 1):
            at = f"replay-oseq {last}" if way == "out" else f"replay-seq {last}"
            self.run(f"{IP} xfrm state add src {source} dst {to} proto esp spi {spi:#x} reqid {number} mode transport "
                     f"replay-window 2048 {at} flag esn aead {AEAD} 0x{key.hex()} 128")
            self.run(f"{IP} xfrm policy add src {source}/32 dst {to}/32 proto 17 dport {PORT} dir {way} "
                     f"tmpl src {source} dst {to} proto esp reqid {number} mode transport")
        self.run(f"{IP} link add vx0 address {station.mac} mtu 1500 type vxlan id {vni} local {here} remote {there} dstport {PORT}")
        self.run(f"{IP} addr add {station.ips[0]}/24 dev vx0; {IP} link set vx0 up")
