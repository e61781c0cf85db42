#!/usr/bin/python3
"""Programs that share no code with ours read and write the datagrams of encrypted tunnels, with the keys that `export_keys` has
written: scapy opens all that two hosts send each other, and its own are accepted; tshark dissects them; a Linux kernel sends and
receives them.

Two hosts with a station each; streams of all lengths in both directions. `scapy_opened`: ESP datagrams of the capture that scapy
has opened, with the tag verified; `scapy_failed`: others. `scapy_streams`, `tshark_streams`: datagrams of the streams in what
they read, less `sent`, as many as were sent: 0. `foreign`: frames that scapy has sealed, half of them with an IV that is not the
sequence number; `foreign_lost`: those that did not arrive as they were. `exports_differ`: SAs of which the two hosts have
exported different keys.

At the end a virtual machine takes the place of gw-b, which loses its cable: Linux's own ESP and VXLAN with the keys of gw-b given
by hand (`lib/peers/linux_esp.py`), and Bob's address. Streams run between it and Alice in both directions: `linux_sent`,
`linux_lost`.
"""

import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from lib import scenario
from lib.guests.guest import Shell, images
from lib.lab import Failure, fabric, info, sh, until
from lib.lab.fabric import VTEP4
from lib.peers import linux_esp, scapy_esp
from lib.product import ron, stopover
from lib.product.stopover import MEMORY_MIB
from lib.traffic import capture, frames, mesh, plaintext, probes, stream, wiretap

VNI = 100
COUNT, RATE = (40, 150) if scenario.SHORT else (800, 500)
FOREIGN = 40 if scenario.SHORT else 1_000
AHEAD = 64  # numbers left out before scapy's first
LINUX_RATE, LINUX_S = (100, 1.5) if scenario.SHORT else (400, 20)


def esp(path):
    """The ESP datagrams of a capture: source port, destination and SPI, payload."""
    for frame in frames.each_of_pcap(path):
        if plaintext.kind(frame) == "esp":
            payload = frame[42:14 + int.from_bytes(frame[16:18], "big")]
            to = ".".join(map(str, frame[30:34]))
            yield int.from_bytes(frame[34:36], "big"), (to, int.from_bytes(payload[:4], "big")), payload


class Run:
    """Two hosts that export their keys, and their stations."""

    def __init__(self, lab):
        self.lab = lab
        images()
        lab.hugepages(2 * MEMORY_MIB + 64)
        self.board, self.net = stopover.Board(lab), fabric.Fabric(lab)
        self.hosts = [self.net.host(f"gw-{n}", self.board, v6=False, tunnels={
            "mode": ron.word("required"), "rekey_s": 3600, "export_keys": str(lab.dir / f"gw-{n}.keys")}) for n in "ab"]
        self.stations = [fabric.Tenant.numbered(lab, name, VNI, n).plug_vif(host)
                         for n, (name, host) in enumerate(zip(("alice", "bob"), self.hosts), 1)]
        self.eve = wiretap.Eve(lab, self.net)
        self.wire = capture.Capture(lab, self.net.switch, "br0", "underlay")
        self.linux = linux_esp.LinuxEsp(lab, self.net, 2)

    def streams(self):
        """Streams both ways, with new keys in their midst. Returns how many datagrams there were."""
        for host in self.hosts:
            host.start()
        stopover.wait_nodes(self.hosts, 2)
        streams = mesh.Streams(self.lab, self.stations, count=COUNT, rate=RATE)
        time.sleep(1)
        self.hosts[0].cli("tunnel", "rekey", "gw-b")
        udp = streams.finish()
        info(f"UDP streams: {dict(udp)}")
        self.wire.stop()
        return udp

    def keys(self):
        """The exported SAs, and how many the two hosts have of which they disagree."""
        of_a, of_b = (scapy_esp.sas(self.lab.dir / f"{host.name}.keys") for host in self.hosts)
        # An SA is at its receiver before it is at its sender, if it ever gets there.
        differ = sum(of_a[sa] != of_b[sa] for sa in of_a.keys() & of_b.keys())
        return of_a | of_b, differ

    def open(self, keys):
        """Opens the whole capture with scapy."""
        opened, failed, streams = 0, 0, 0
        for _, sa, payload in esp(self.wire.path):
            try:
                frame = scapy_esp.opened(payload, keys[sa][0])
            except Exception as e:  # whatever scapy raises
                failed += 1
                info(f"scapy: {type(e).__name__} {e}: {payload[:24].hex()}")
                continue
            opened += 1
            streams += plaintext.PAYLOAD in frame
        return {"scapy_opened": opened, "scapy_failed": failed}, streams

    def dissect(self, keys):
        """How many datagrams of the streams tshark sees, with the keys and without."""
        ports = sorted({port for port, _, _ in esp(self.wire.path)})
        argv = ["tshark", "-n", "-r", self.wire.path, "-Y", f"udp.dstport == 7007 && vxlan.vni == {VNI}", "-T", "fields",
                "-e", "frame.number", *(w for p in ports for w in ("-d", f"udp.port=={p},udpencap")), "-d", "udp.port==7007,data"]
        rows = [w for (to, spi), (key, source) in keys.items()
                for w in ("-o", f'uat:esp_sa:"IPv4","{source}","{to}","{spi:#010x}","{scapy_esp.CIPHER}","0x{key.hex()}","NULL",""')]
        return [len(sh(*argv, *more, timeout=300).splitlines()) for more in (["-o", "esp.enable_encryption_decode:TRUE", *rows], [])]

    def newest(self, host):
        """The SA by which the other host has sent to this one last, and the highest number under it."""
        mine = [(sa, int.from_bytes(p[8:16], "big")) for _, sa, p in esp(self.wire.path) if sa[0] == VTEP4.format(host)]
        return mine[-1][0], max(number for sa, number in mine if sa == mine[-1][0])

    def seal(self, keys):
        """Frames by scapy under the SA by which gw-b sends to gw-a. Returns how many, and how many have not arrived."""
        alice, bob = self.stations
        sent = probes.Probes()
        watch = probes.Watch(alice, sent, {7007})
        sa, newest = self.newest(1)
        numbers = sent.make(FOREIGN, bob, alice)
        made = []
        for n in numbers:
            iv = None if n % 2 else bytes([0xFE, *n.to_bytes(7, "big")])
            ends = VTEP4.format(2), sa[0]
            packet = scapy_esp.sealed(sent.frames[n], VNI, ends, sa[1], keys[sa][0], newest + AHEAD + n, iv)
            made.append(wiretap.mac(1) + wiretap.mac(2) + b"\x08\x00" + packet)
        self.eve.send_frames(made, rate=1_000)
        try:
            until("scapy's frames arrive", lambda: not watch.missing(numbers), timeout=5)
        except Failure as e:
            info(f"{e}: {watch.missing(numbers)} of {len(numbers)} are missing; {self.hosts[0].drops()}")
        watch.stop()
        return {"foreign": len(numbers), "foreign_lost": watch.missing(numbers) + watch.damaged + watch.strange + watch.twice()}

    def by_linux(self, keys):
        """Streams between Alice and a Linux kernel in the place of gw-b. Returns how many datagrams, and how many were lost."""
        alice, bob = self.stations
        self.linux.booted(90)
        self.net.switch.ip("link", "set", "port2", "down")
        (out, newest), (inward, _) = self.newest(1), self.newest(2)
        self.linux.configure(1, (out[1], keys[out][0], newest + 2 * AHEAD + FOREIGN), (inward[1], keys[inward][0], 0), VNI, bob)
        until("Linux reaches Alice", lambda: self.linux.ping(alice.ips[0], count=1)["received"])
        at_alice = Shell(self.lab, alice.ns)
        receivers = stream.Receiver(self.linux), stream.Receiver(at_alice)
        senders = (stream.Sender(at_alice, bob.ips[0], 1, LINUX_RATE, size=1_400),
                   stream.Sender(self.linux, alice.ips[0], 2, LINUX_RATE, size=1_400))
        time.sleep(LINUX_S)
        sent = [sender.stop()["sent"] for sender in senders]
        got = [receiver.tally({n: count}) for n, (receiver, count) in enumerate(zip(receivers, sent), 1)]
        info(f"between Alice and Linux {sent} datagrams were sent, {[g['lost'] for g in got]} lost")
        return {"linux_sent": sum(sent), "linux_lost": sum(g["lost"] + g["duplicated"] + g["foreign"] for g in got)}


def body(lab):
    info("building two hosts that encrypt and export their keys")
    run = Run(lab)
    udp = run.streams()
    keys, differ = run.keys()
    figures, streams = run.open(keys)
    info(f"{len(keys)} SAs; scapy: {figures}, {streams} datagrams of the streams; {udp['expected']} were sent")
    figures |= run.seal(keys)
    figures |= run.by_linux(keys)
    seen, without = run.dissect(keys)
    info(f"tshark sees {seen} datagrams of the streams, without keys {without}")
    figures |= {"lost": udp["lost"], "sent": udp["expected"], "exports_differ": differ,
                "scapy_streams": streams - udp["expected"], "tshark_streams": seen - udp["expected"],
                "tshark_without_keys": without}
    return {**figures, **stopover.accounting(run.hosts)}


scenario.main("tunnel-foreign", body,
              must_be_zero=["lost", "scapy_failed", "scapy_streams", "tshark_streams", "tshark_without_keys", "foreign_lost",
                            "linux_lost", "exports_differ", "unaccounted", "faulty_drops"],
              must_be_positive=["sent", "scapy_opened", "foreign", "linux_sent"])
