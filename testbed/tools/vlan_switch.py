#!/usr/bin/python3
"""A VLAN switch in user space, for kernels without 802.1Q: one trunk and any number of access ports; it learns by VLAN.
Runs in the namespace of the ports.

    vlan_switch.py '{"trunk": "up0", "access": {"st4": 10, "st5": 20}}'

Prints `ready` when it forwards.
"""

import json
import selectors
import socket
import struct
import sys

ETH_P_ALL = 3
SOL_PACKET, PACKET_AUXDATA, PACKET_IGNORE_OUTGOING = 263, 8, 23
SO_RCVBUFFORCE = 33
AUX = struct.Struct("=IIIHHHH")  # struct tpacket_auxdata
VLAN_VALID = 1 << 4


def port(dev):
    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    s.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 16 << 20)
    s.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
    s.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    s.bind((dev, ETH_P_ALL))
    s.setblocking(False)
    return s


def receive(sock):
    """A frame and the VLAN tag that the kernel removed from it, or (None, None)."""
    try:
        frame, extra, _, _ = sock.recvmsg(9216, 64)
    except BlockingIOError:
        return None, None
    for level, kind, data in extra:
        if (level, kind) == (SOL_PACKET, PACKET_AUXDATA):
            status, _, _, _, _, tci, _ = AUX.unpack_from(data)
            if status & VLAN_VALID:
                return frame, tci & 0xFFF
    return frame, None


def main(job):
    trunk = port(job["trunk"])
    access = {port(dev): vlan for dev, vlan in job["access"].items()}
    learned = {}  # (vlan, mac) -> socket
    ready = selectors.DefaultSelector()
    for s in (trunk, *access):
        ready.register(s, selectors.EVENT_READ)
    print("ready", flush=True)

    def send(sock, vlan, frame):
        if sock is trunk:
            frame = frame[:12] + struct.pack("!HH", 0x8100, vlan) + frame[12:]
        sock.setblocking(True)
        try:
            sock.send(frame)
        finally:
            sock.setblocking(False)

    while True:
        for key, _ in ready.select():
            source = key.fileobj
            for _ in range(64):
                frame, tag = receive(source)
                if frame is None:
                    break
                vlan = tag if source is trunk else access[source]
                if vlan is None or (source is not trunk and tag is not None):
                    continue  # an untagged frame on the trunk, or a tagged one on an access port
                learned[vlan, frame[6:12]] = source
                to = learned.get((vlan, frame[:6]))
                if to is None:
                    to = [s for s in (trunk, *access) if s is not source and access.get(s, vlan) == vlan]
                elif to is source:
                    continue
                else:
                    to = [to]
                for s in to:
                    send(s, vlan, frame)


main(json.loads(sys.argv[1]))
