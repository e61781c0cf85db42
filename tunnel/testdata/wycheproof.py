#!/usr/bin/python3
"""Writes wycheproof-x25519.txt and wycheproof-ml-kem-768.txt from the test vectors of Project Wycheproof.

    wycheproof.py FOLDER        with x25519_test.json and mlkem_768_*_test.json (testvectors_v1 of C2SP/wycheproof)

Of kinds of vectors (result and flags) that are many, the first ones. Of ML-KEM only what a library can be asked that makes its
own random numbers: to open, with an expanded key; and to refuse a public key. Run by hand; the tests read only the text files.
"""

import json
import sys
from collections import Counter
from pathlib import Path

HERE, FOLDER = Path(__file__).parent, Path(sys.argv[1])
LICENCE = """\
# Test vectors of Project Wycheproof (https://github.com/C2SP/wycheproof), Apache License 2.0, copyright Google LLC and
# contributors, written by wycheproof.py. One vector a line, in hexadecimal; - is empty.
"""


def tests(name):
    for group in json.loads((FOLDER / f"{name}_test.json").read_text())["testGroups"]:
        yield from group["tests"]


def some(vectors, most, kind):
    seen = Counter()
    for vector in vectors:
        seen[kind(vector)] += 1
        if seen[kind(vector)] <= most:
            yield vector


def write(name, columns, lines):
    text = "\n".join(" ".join(column or "-" for column in line) for line in lines)
    (HERE / name).write_text(f"{LICENCE}# {columns}\n{text}\n")


x25519 = some(tests("x25519"), 12, lambda v: (v["result"], tuple(v["flags"])))
write("wycheproof-x25519.txt", "Private key, public key, shared secret.", (
    (v["private"], v["public"], v["shared"]) for v in x25519))

opened = [("open", v["dk"], v["c"], v.get("K"), v["result"]) for v in tests("mlkem_768_semi_expanded_decaps")]
refused = (v for v in tests("mlkem_768_encaps") if v["result"] == "invalid")
refused = some(refused, 6, lambda v: (tuple(v.get("flags", ())), len(v["ek"])))
write("wycheproof-ml-kem-768.txt", "open, private key, ciphertext, secret, valid or invalid; or refuse, public key.", opened + [
    ("refuse", v["ek"]) for v in refused])
