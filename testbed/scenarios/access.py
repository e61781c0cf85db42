#!/usr/bin/python3
"""Everyone tries every call of the board; certificates are replaced under clients that must not notice.

A board listens with TLS, for newcomers, with plain TCP and on a Unix socket. The calls are those of the descriptor that
`protoc` makes of bbs/proto; what is expected of each is a table of the tool `access`, which is written from
docs/protocol.md and knows nothing of the board's code. A call that is new there fails the scenario until it has its
expectation. Every call is made

- by a host for itself, by another host for that host, an operator, an observer, a program and a member, each with its
  certificate; over plain TCP, which proves nothing; and over the Unix socket by root, by users that the board knows as an
  operator, an observer and a host, and by one that it does not know,
- with the board's own certificate, without one, and with one that has expired, is of tomorrow, revoked, of another CA, of
  another CA with the name of ours, signed by itself or by a host, without a role, with two, or with an unknown one, and
  with plain TCP at the port with TLS: none of these may get a connection,
- at the endpoint for newcomers, which must have none of them but its own, with right and wrong tokens.

A refused call must leave the board's revision as it was. Further, a second instance of a host calls while the lease of the
first one lives; TLS below 1.3 is offered to the board and by one; servers with all kinds of wrong certificates wait for
clients, which must not send them anything; and connections are open when their certificates are revoked. All of these are
`attempts`.

`allowed_wrongly`, `refused_wrongly`: attempts with the other outcome than expected. `unclear`: refused for another reason than
the caller. `other_reasons`: reasons that the board has not counted as often as it refused a peer for them. `revoked_s_max`: the
longest time until a connection ended after the revocation; `late`: more than 5 s. `unnamed`: events, and lines of the log
about changes, without the name of their originator.

`rotation_lost`: what good clients lost while the certificates of all, the revocation list and in the end the CA's key
were replaced without a restart, `rotations` times: calls without their answer (of `calls`), connections that were
refused (of `connections`), claims that were not accepted, and changes that a watcher was not sent (of `frames`).

Options: --rounds 20 (of new certificates for all)
"""

import argparse
import json
import os
import pathlib
import re
import socket
import ssl
import subprocess
import sys
import threading
import urllib.request
import warnings

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from lib import scenario
from lib.lab import REPO, Failure, info, sh
from lib.lab.process import Process, free_port
from lib.product import ron
from lib.product.stopover import program

# Users of this machine: an operator, an observer, a host, and one that the board does not know.
USERS = [61_231, 61_232, 61_233, 61_234]
# In each second; half of what the good clients do on a quiet machine would be 200.
CALLS_PER_S = 50
ATTEMPTS = 150
NEWEST = ssl.TLSVersion.TLSv1_3
OLD = {"TLS 1.2": ssl.TLSVersion.TLSv1_2, "TLS 1.1": ssl.TLSVersion.TLSv1_1, "TLS 1.0": ssl.TLSVersion.TLSv1}


class Board:
    """A board at all kinds of endpoints, with a CA."""

    def __init__(self, lab):
        self.dir, self.socket = lab.dir, lab.dir / "bbs.sock"
        self.tls, self.enrol, self.plain, self.metrics = (f"127.0.0.1:{free_port()}" for _ in range(4))
        self.pki("init")
        self.pki("issue", "board", "bbs", "--out", self.dir / "board")
        (self.dir / "made").mkdir()
        config = lab.dir / "bbs.ron"
        operator, observer, host, _ = USERS
        config.write_text(ron.dumps({
            "listen": [f"https://{self.tls}", f"http://{self.plain}", f"unix:{self.socket}"], "insecure": True,
            "store": f"{lab.dir}/bbs.redb", "tls": f"{lab.dir}/board", "metrics": self.metrics,
            "enrol": {"listen": f"https://{self.enrol}", "ca": f"{lab.dir}/ca"},
            "unix": {"operators": [operator], "observers": [observer], "hosts": [host]},
            # Nobody's lease ends by itself.
            "heartbeat_ms": 60_000, "host_timeout_ms": 600_000}) + "\n")
        sh(program("stopover-bbs"), "init", config)
        self.process = Process(lab, "bbs", [program("stopover-bbs"), config], env={"RUST_BACKTRACE": "1"})
        self.process.wait_socket(self.socket)
        self.socket.chmod(0o666)
        lab.dir.chmod(0o755)

    def pki(self, *argv):
        return sh(program("stopover"), "pki", "--ca", self.dir / "ca", *argv)

    def counted(self):
        """How often the board refused a peer for each reason."""
        with urllib.request.urlopen(f"http://{self.metrics}/metrics", timeout=10) as answer:
            page = answer.read().decode()
        return {name: int(n) for name, n in re.findall(r'stopover_bbs_tls_refused_total{reason="(\w+)"} (\d+)', page)}


class Downgrade:
    """TLS below 1.3, offered to the board and by a server that has the board's own certificate."""

    def __init__(self, board):
        self.board, self.folder = board, board.dir / "downgrade"
        self.attempts, self.allowed_wrongly, self.refused_wrongly = 0, 0, 0
        board.pki("issue", "operator", "mallory", "--out", self.folder)

    def context(self, purpose, version, folder):
        """TLS of exactly this version, as weak as the library permits."""
        context = ssl.SSLContext(purpose)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context.maximum_version = version
            context.minimum_version = version
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.set_alpn_protocols(["h2"])
        if folder is not None:
            context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
        return context

    def judge(self, what, passed, may):
        self.attempts += 1
        if passed == may:
            return
        if passed:
            self.allowed_wrongly += 1
        else:
            self.refused_wrongly += 1
        info(f"{'allowed' if passed else 'refused'} wrongly: {what}")

    def shakes_hands(self, address, version, folder):
        """Whether a server admits this client: it must send something, since in TLS 1.3 it refuses after the handshake."""
        host, port = address.split(":")
        context = self.context(ssl.PROTOCOL_TLS_CLIENT, version, folder)
        try:
            with socket.create_connection((host, int(port)), timeout=10) as plain, context.wrap_socket(plain) as s:
                s.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
                return bool(s.recv(1))
        except (ssl.SSLError, ConnectionError):
            return False

    def to_the_board(self):
        for what, address, folder in [("the board", self.board.tls, self.folder), ("newcomers", self.board.enrol, None)]:
            for name, version in {"TLS 1.3": NEWEST, **OLD}.items():
                passed = self.shakes_hands(address, version, folder)
                self.judge(f"{name} at the endpoint of {what}", passed, version == NEWEST)

    def by_a_server(self):
        """The operator's program at a server that knows no TLS 1.3."""
        for name, version in OLD.items():
            context = self.context(ssl.PROTOCOL_TLS_SERVER, version, self.board.dir / "board")
            spoken = []
            with socket.create_server(("127.0.0.1", 0)) as listener:
                listener.settimeout(20)

                def serve(listener=listener, context=context, spoken=spoken):
                    try:
                        plain, _ = listener.accept()
                        with plain, context.wrap_socket(plain, server_side=True) as s:
                            spoken.append(s.recv(1))
                    except (ssl.SSLError, OSError):
                        pass

                serving = threading.Thread(target=serve, daemon=True)
                serving.start()
                port = listener.getsockname()[1]
                done = subprocess.run([program("stopover"), "--tls", self.folder, "--board", f"https://127.0.0.1:{port}",
                                       "show", "board"], capture_output=True, text=True, timeout=60, check=False)
                serving.join()
            self.judge(f"{name} by a server", done.returncode == 0 or bool(spoken), False)


def unnamed(board):
    """Events, and lines of the board's log about them, without an originator; and how many have one."""
    lines = sh(program("stopover"), "--board", f"unix:{board.socket}", "events", "--json").splitlines()
    events = [json.loads(line) for line in lines]
    missing = [e for e in events if not re.fullmatch(r"board|operator|(host|operator|program) [^ ].*", e["actor"])]
    lines = board.process.log.read_text(errors="replace").splitlines()
    for e in events:
        if not any(e["text"] in line and f"[by {e['actor']}]" in line for line in lines):
            missing.append(e)
    for e in missing[:5]:
        info(f"without an originator: {e}")
    return len(missing), len(events), {e["actor"] for e in events}


def descriptor(lab):
    """Of all .proto files."""
    proto, out = REPO / "bbs" / "proto", lab.dir / "descriptor"
    sh("protoc", "-I", proto, f"--descriptor_set_out={out}", *sorted(proto.glob("**/*.proto")))
    return out


def body(lab):
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=2 if scenario.SHORT else 20)
    rounds = parser.parse_args().rounds
    board = Board(lab)
    downgrade = Downgrade(board)
    downgrade.to_the_board()
    downgrade.by_a_server()
    info(f"TLS below 1.3: {downgrade.attempts} attempts")
    os.environ.pop("STOPOVER_TLS", None)
    tool = Process(lab, "access", [
        program("access"), "--dir", lab.dir, "--tls", board.tls, "--enrol", board.enrol, "--plain", board.plain,
        "--unix", board.socket, "--descriptor", descriptor(lab), "--rounds", rounds, "--users", *USERS],
        env={"RUST_LOG": "off", "RUST_BACKTRACE": "0"})
    status = tool.wait_end(600)
    lines = tool.log.read_text(errors="replace").splitlines()
    for line in lines[:-1]:
        info(line)
    if status != 0:
        raise Failure(f"access ended with status {status}: {tool.tail(3)}")
    board.process.check()
    figures = json.loads(lines[-1])
    expected, counted = figures.pop("refused_peers"), board.counted()
    expected["version"] = len(OLD)  # newcomers are counted elsewhere
    fewer = {reason: counted.get(reason, 0) for reason, n in expected.items() if counted.get(reason, 0) < n}
    info(f"peers refused by reason: {counted}; fewer than {expected}: {fewer or 'none'}")
    without, events, names = unnamed(board)
    info(f"{events} events by {sorted(names)}")
    for count in ("attempts", "allowed_wrongly", "refused_wrongly"):
        figures[count] += getattr(downgrade, count)
    return {**figures, "other_reasons": len(fewer), "events": events, "unnamed": without,
            "too_few": max(0, ATTEMPTS - figures["attempts"]),
            "too_few_calls": max(0, CALLS_PER_S - figures["calls_per_s"]),
            "late": int(figures["revoked_s_max"] > 5)}


scenario.main("access", body,
              must_be_zero=["allowed_wrongly", "refused_wrongly", "unclear", "other_reasons", "rotation_lost", "unnamed",
                            "too_few"],
              must_be_positive=["rpcs", "attempts", "of_these_allowed", "rotations", "calls", "connections", "frames",
                                "events"],
              must_be_zero_alone=["late", "too_few_calls"])
