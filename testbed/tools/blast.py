#!/usr/bin/python3
"""Sends raw frames from an interface: `blast.py DEV RATE FILE`. Each frame in the file follows its length in two bytes,
big-endian. Prints how many frames the kernel took and how many it refused (longer than the MTU)."""

import socket
import struct
import sys
import time

dev, rate, path = sys.argv[1], int(sys.argv[2]), sys.argv[3]
data = open(path, "rb").read()
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind((dev, 0))
sent = refused = at = 0
began = time.monotonic()
while at < len(data):
    (size,) = struct.unpack_from("!H", data, at)
    try:
        s.send(data[at + 2:at + 2 + size])
        sent += 1
    except OSError:
        refused += 1
    at += 2 + size
    ahead = (sent + refused) / rate - (time.monotonic() - began)
    if ahead > 0.002:
        time.sleep(ahead)
print(sent, refused)
