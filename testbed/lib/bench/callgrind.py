"""Reads a profile of callgrind: how many instructions a thread executed, and how many frames it sent in that time.

The profile itself has the number of frames, so both figures are of the same time: the sink of the bench, DPDK's null
driver, frees every frame and calls `__tls_get_addr` once for each. For the format see "Callgrind Format Specification"
in the manual of valgrind.
"""

import re

SINK, ONCE = "librte_net_null", "__tls_get_addr"
POSITION = re.compile(r"(c?)(ob|fn|fl|fi|fe)=\((\d+)\)(?: (.*))?")


def counted(lines):
    """(instructions, frames) of one thread's profile.

    >>> counted('''version: 1
    ... ob=(1) /usr/bin/appliance
    ... fl=(1) ???
    ... fn=(1) shim_tx_burst
    ... 0 10
    ... cob=(2) /usr/lib/librte_net_null.so.23.0
    ... cfi=(2) ???
    ... cfn=(2) 0x4630
    ... calls=2 0
    ... 0 900
    ...
    ... ob=(2)
    ... fn=(2)
    ... 0 700
    ... cob=(3) /lib/ld-linux-x86-64.so.2
    ... cfn=(3) __tls_get_addr
    ... calls=64 0
    ... 0 200
    ... ob=(1)
    ... fn=(4) control
    ... cob=(3)
    ... cfn=(3)
    ... calls=5 0
    ... 0 15
    ... totals: 925'''.splitlines())
    (925, 64)
    """
    names, here, called = {}, {}, {}
    instructions = frames = 0
    for line in lines:
        if position := POSITION.match(line):
            other, kind, number, name = position.groups()
            table = "f" if kind[0] == "f" and kind != "fn" else kind
            if name is not None:
                names[table, number] = name
            (called if other else here)[table] = names.get((table, number), "")
        elif line.startswith("calls="):
            if SINK in here.get("ob", "") and called.get("fn") == ONCE:
                frames += int(line[len("calls="):].split()[0])
            called = {}
        elif line.startswith("totals:"):
            instructions = int(line.split()[1])
    return instructions, frames


def per_frame(profiles):
    """Instructions per frame of the thread that sent frames; None if no thread did.

    >>> per_frame([["totals: 5"], ["ob=(1) librte_net_null.so", "cfn=(2) __tls_get_addr", "calls=10 0", "totals: 4000"]])
    400.0"""
    found = [counted(p) for p in profiles]
    instructions, frames = max(found, key=lambda f: f[1], default=(0, 0))
    return instructions / frames if frames else None


def order(starts):
    """The order of A and B in so many starts of each: A B, B A, A B, ...

    >>> [''.join(pair) for pair in order(3)]
    ['AB', 'BA', 'AB']
    """
    return [("A", "B") if n % 2 == 0 else ("B", "A") for n in range(starts)]
