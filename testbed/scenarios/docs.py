#!/usr/bin/python3
"""Commands, configurations, samples and links in README, docs and examples are correct: the programs accept them, what
can be run is run, samples are what the programs print, and metrics are those that they serve.

README's two configurations are started, with a cable instead of the NIC and a tap instead of the VM. The samples of the
documents are compared in shape, without numbers and column widths. `--write` puts the present output into the documents
instead.
"""

import http.client
import json
import os
import pathlib
import re
import shlex
import socket
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from lib import scenario
from lib.lab import REPO, Failure, info
from lib.lab.netns import Namespace, veth
from lib.lab.process import Process, listens
from lib.product import doc_samples, markdown
from lib.product.doc_samples import FAR_VM, VM, VNI

WRITE = "--write" in sys.argv
MEMORY_MIB = 512
# Where the two programs of README serve their metrics.
METRICS = {"bbs.ron": "127.0.0.1:9480", "hv-a.ron": "127.0.0.1:9481"}
# The board of identity.md.
BOARD_OF_IDENTITY, NEWCOMERS_OF_IDENTITY = "https://127.0.0.1:7480", "https://127.0.0.1:7481"
# Commands that can be run at any time and succeed.
HARMLESS = re.compile(r"(show|clear) |events(?! .*--follow)|(host|network|node|member) (add|list|load|delete) |"
                      r"(host|network|node|member) list$|migration list|trace .*--hex|port list|reload( --dry-run)?$")


class Docs:
    def __init__(self, lab):
        self.lab, self.folder, self.run_dir = lab, lab.dir / "docs", lab.dir / "run"
        self.folder.mkdir()
        self.figures = dict(blocks=0, commands=0, commands_run=0, setup_commands=0, configurations=0, samples=0,
                            links=0, metrics=0, bad_commands=0, bad_configurations=0, samples_differ=0,
                            broken_links=0, bad_metrics=0, failed=0)
        self.blocks = [b for path in markdown.files() for b in markdown.blocks(path)]
        self.figures["blocks"] = len(self.blocks)
        self.nowhere = Namespace(lab, "nowhere")

    def wrong(self, figure, text):
        self.figures[figure] += 1
        info(text)

    def links(self):
        for path in markdown.files():
            for text in markdown.broken_links(path):
                self.wrong("broken_links", text)
            self.figures["links"] += path.read_text().count("](")

    def configurations(self):
        """README's configurations, named in their first comments, and all examples are valid. Returns README's by name.
        """
        named = {}
        for block in (b for b in self.blocks if b.kind == "ron"):
            name = re.match(r"// (\S+\.ron)\b", block.lines[0])
            if not name:
                self.wrong("bad_configurations", f"{block.place}: a configuration whose first line does not name its file")
                continue
            path = self.folder / name[1]
            path.write_text("\n".join(block.lines) + "\n")
            named[name[1]] = path
        for path in [*named.values(), *sorted(REPO.glob("examples/**/*.ron"))]:
            self.figures["configurations"] += 1
            if "ports:" in path.read_text():
                argv = ["stopover-appliance", "--check", path]
            else:
                argv = ["stopover-bbs", "init", path, "--store", self.lab.dir / f"{self.figures['configurations']}.redb"]
            done = self.command(argv)
            if done.returncode:
                self.wrong("bad_configurations", f"{path}: {done.stderr.strip()}")
        return named

    def command(self, words, ns=None, timeout=20, **env):
        """Runs one of our programs in the folder of the reader."""
        argv = (ns or self.nowhere).command(doc_samples.programs_of([str(w) for w in words]))
        base = {k: v for k, v in os.environ.items() if not k.startswith("STOPOVER_")}
        return subprocess.run(argv, capture_output=True, text=True, timeout=timeout, cwd=self.folder, env=base | env)

    def commands(self):
        """Every command exists; our own programs parse their arguments. Returns {command: place}."""
        makefile = (REPO / "Makefile").read_text()
        scenarios = {p.stem for p in (REPO / "testbed" / "scenarios").glob("*.py")}
        found = {}
        for path in markdown.files():
            for place, text in markdown.commands(path):
                found.setdefault(text, place)
        for path in sorted(REPO.glob("examples/**/*.ron")):
            for n, line in enumerate(path.read_text().splitlines(), 1):
                m = re.match(r"\s*//\s+((?:stopover|stopover-bbs|stopover-appliance) [^:]*)$", line)
                if m:
                    found.setdefault(m[1], f"{path.relative_to(REPO)}:{n}")
        for text, place in found.items():
            self.figures["commands"] += 1
            name, *rest = text.split()
            if name == "make" and not all(re.search(rf"^{w}:", makefile, re.M) for w in rest if w.isalpha()):
                self.wrong("bad_commands", f"{place}: `{text}`: no such target")
            elif name == "testbed/run":
                names = list(names_of(rest))
                unknown = [w for w in names if w not in scenarios | {"list", "all", "NAME", "NAME..."}]
                if unknown:
                    self.wrong("bad_commands", f"{place}: `{text}`: no such scenario")
            elif name in ("stopover-bbs", "stopover-appliance"):
                self.program_line(place, text)
            elif name == "stopover":
                for words in markdown.spelled_out(text):
                    if words[1:2] == ["pki"] and words[2:]:
                        words = self.pki_words(words, self.lab.dir / "pki")
                    done = self.command(words, STOPOVER_BOARD="unix:/nonexistent", STOPOVER_CTL="/nonexistent")
                    # Prose may name a command without its arguments.
                    lacks = "required arguments were not" in done.stderr or "\nCommands:\n" in done.stderr
                    named_only = lacks and "[" not in text and " -" not in text
                    if done.returncode == 2 and not named_only:
                        self.wrong("bad_commands", f"{place}: `{shlex.join(words)}`: {done.stderr.strip()}")
        return found

    @staticmethod
    def enrol_words(words, token, folder):
        """The command with its placeholders replaced."""
        used = {"--board": NEWCOMERS_OF_IDENTITY, "--token": token, "--out": str(folder / "etc/stopover/tls")}
        return [used.get(last, w) for last, w in zip(["", *words], words)]

    def board_for_newcomers(self, folder):
        """The board of identity.md, with the CA and the credentials that its commands made."""
        path = folder / "bbs.ron"
        path.write_text(f'(listen: ["{BOARD_OF_IDENTITY}"], store: "{folder}/bbs.redb", tls: "{folder}/etc/stopover/tls", '
                        f'enrol: (listen: "{NEWCOMERS_OF_IDENTITY}", ca: "{folder}/ca"))\n')
        if (done := self.command(["stopover-bbs", "init", path])).returncode:
            raise Failure(f"the board of identity.md cannot be made: {done.stderr}")
        argv = doc_samples.programs_of(["stopover-bbs", str(path)])
        Process(self.lab, "bbs-identity", argv, ns=self.nowhere).wait_line("newcomers get their certificates")

    @staticmethod
    def pki_words(words, folder):
        """The command with its folders below one of this run."""
        below = [str(folder / w.lstrip("/")) if last == "--out" else w for last, w in zip(["", *words], words)]
        return [*below, "--ca", str(folder / "ca")]

    def identity(self):
        """The commands of identity.md, one after another, make a CA and what its holders need. Hosts enrol at a board."""
        folder = self.lab.dir / "identity"
        (folder / "etc/stopover").mkdir(parents=True)
        tokens, enrolled, commands = [], [], 0
        for place, text in markdown.commands(REPO / "docs" / "identity.md"):
            if not text.startswith(("stopover pki ", "stopover enrol ")) or not place_is_block(place, self.blocks):
                continue
            if text.startswith("stopover enrol "):
                if not enrolled:
                    self.board_for_newcomers(folder)
                # Each host has an /etc of its own.
                own = folder / f"host-{len(enrolled)}"
                (own / "etc/stopover").mkdir(parents=True)
                words = self.enrol_words(text.split(), tokens[len(enrolled)], own)
                enrolled.append(words[words.index("--out") + 1])
            else:
                words = self.pki_words(text.split(), folder)
            # The document leaves the issuing again of all others to words.
            done = self.command([*words, "--force"] if "--finish" in words else words)
            self.figures["commands_run"] += 1
            commands += 1
            if done.returncode:
                self.wrong("failed", f"{place}: `{text}` failed: {done.stderr.strip()}")
            if text.startswith("stopover pki token issue "):
                tokens.append(done.stdout.strip())
            if len(enrolled) == len(tokens) == 2 and not self.figures["setup_commands"]:
                self.figures["setup_commands"] = commands
        if not 0 < self.figures["setup_commands"] <= 6:
            self.wrong("failed", "docs/identity.md: TLS between a board and two hosts takes more than six commands")
        for own in enrolled:
            done = self.command(["stopover", "--tls", own, "--board", BOARD_OF_IDENTITY, "show", "board"])
            if done.returncode:
                self.wrong("failed", f"docs/identity.md: the board refuses an enrolled host: {done.stderr.strip()}")
        listed = json.loads(self.command(self.pki_words(["stopover", "pki", "list", "--json"], folder)).stdout)
        states = sorted((row["role"], row["name"], row["state"]) for row in listed)
        expected = [("board", "bbs", "valid"), ("host", "hv-a", "valid"), ("host", "hv-a", "valid"),
                    ("host", "hv-b", "revoked")]
        if states != expected:
            self.wrong("failed", f"docs/identity.md: its commands make {states}, and not {expected}")

    def program_line(self, place, text):
        """A line that starts a program: all words but the file are its options, or values of these."""
        words = [markdown.PLACEHOLDERS.get(w, w) for w in text.split()]
        files = [w for w in words if w.endswith(".ron")]
        known = {p.name for p in [*self.folder.glob("*.ron"), *REPO.glob("examples/**/*.ron")]}
        help_text = self.command([words[0], "--help"]).stdout
        if words[1:] and re.search(rf"^  {re.escape(words[1])}\s", help_text, re.M):
            help_text += self.command([*words[:2], "--help"]).stdout
        values = [value for option, value in zip(words, words[1:]) if re.search(rf"{re.escape(option)} <", help_text)]
        odd = [w for w in words[1:]
               if w not in files + values and not re.search(rf"(^|\s){re.escape(w)}\b", help_text)]
        if odd or any(pathlib.Path(f).name not in known for f in files):
            self.wrong("bad_commands", f"{place}: `{text}`: unknown words {odd or files}")

    def start(self, named):
        """Starts README's board and appliance, with sockets of this run. Returns the EAL file prefix."""
        self.lab.hugepages(MEMORY_MIB)
        self.host, self.far = Namespace(self.lab, "host"), Namespace(self.lab, "far")
        self.host.sysctl("ipv6.conf.default.disable_ipv6", 1)
        self.host.address("lo", "192.0.2.10/32")
        veth(self.host, "ul0", self.far, "ul0", mtu=1600)
        self.far.address("ul0", "10.0.0.3/24")
        prefix = f"so{self.lab.pid}hv-a"
        for path in named.values():
            text = path.read_text().replace("/run/stopover", str(self.run_dir))
            text = text.replace("/var/lib/stopover", str(self.lab.dir / "store"))
            for shown, used in (("--file-prefix=hv-a\"", f"--file-prefix={prefix}\", \"--no-pci\""),
                                 ('name: "hv-a",', f'name: "hv-a", ctl: "{self.run_dir}/hv-a.sock", '
                                                   f'metrics: "{METRICS["hv-a.ron"]}",'),
                                 ("    store:", f'    metrics: "{METRICS["bbs.ron"]}",\n    store:'),
                                 ('"0000:03:00.0"', '"net_af_packet0"'), ('"net_vhost0"', '"net_tap0"')):
                text = text.replace(shown, used)
            text = re.sub(r'"net_vhost0,[^"]*"', '"net_af_packet0,iface=ul0", "net_tap0,iface=vm1"', text)
            path.write_text(text)
        done = self.command(["stopover-bbs", "init", named["bbs.ron"]])
        if done.returncode:
            raise Failure(f"README's board cannot be made: {done.stderr}")
        argv = doc_samples.programs_of(["stopover-bbs", str(named["bbs.ron"]), "--log-format", "json"])
        self.board = Process(self.lab, "bbs", argv, ns=self.host)
        self.board.wait_socket(self.run_dir / "bbs.sock")
        argv = doc_samples.programs_of(["stopover-appliance", str(named["hv-a.ron"])])
        self.appliance = Process(self.lab, "hv-a", argv, ns=self.host)
        self.ctl = self.run_dir / "hv-a.sock"
        self.appliance.wait_line("hv-a is running", timeout=30)
        self.env = {"STOPOVER_CTL": str(self.ctl), "STOPOVER_BOARD": "http://192.0.2.10:7480", "STOPOVER_INSECURE": "1"}
        for line in ("host add hv-b --vtep 10.0.0.3", f"node add {VNI} {FAR_VM} hv-b --ip 192.168.0.2"):
            self.run_checked(f"stopover {line}")
        end = time.monotonic() + 10
        while not self.reachable():
            if time.monotonic() > end:
                raise Failure("hv-a does not find a path to hv-b")
            time.sleep(0.1)
        return prefix

    def reachable(self):
        nodes = json.loads(self.run_checked("stopover show nodes --json"))
        hosts = self.run_checked("stopover show hosts")
        return len(nodes) == 2 and "reachable" in hosts

    def run_checked(self, text):
        done = self.command(shlex.split(text), ns=self.host, **self.env)
        if done.returncode:
            raise Failure(f"`{text}` ended with status {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def output(self, text):
        """The output of a command, of both streams, even if it fails."""
        done = self.command(shlex.split(text), ns=self.host, **self.env)
        return done.stdout + done.stderr

    def samples(self):
        maker = doc_samples.Samples(self.lab, self.output, self.folder, self.folder / "hv-a.ron", self.far, self.board)
        anew = []
        for block in (b for b in self.blocks if b.kind == "sample"):
            self.figures["samples"] += 1
            made, shown = maker.make(block), "\n".join(block.lines)
            if doc_samples.same(block.hint.split()[1], shown, made):
                continue
            if WRITE:
                anew.append((block, made))
            else:
                self.wrong("samples_differ", f"{block.place}: the sample {block.hint.split()[1]} is not what is printed (run "
                           f"`testbed/run docs --write`). Shown:\n{shown}\nPrinted:\n{made}")

        for block, made in reversed(anew):  # from the end, so that the blocks before keep their lines
            markdown.rewrite(block, made)
            info(f"{block.place}: rewritten")

    def run_harmless(self, found):
        """Runs what can be run, on tables that have what it names."""
        self.output("stopover host delete hv-b --cascade")
        for kind, rows in (("host", "name,vteps\nfar,10.0.0.2\n"), ("network", "vni,name\n100,shop\n"),
                           ("node", f"vni,mac,host,ips\n100,{FAR_VM},far,192.168.0.2\n"), ("member", "vni,host\n100,far\n")):
            (self.folder / f"{kind}s.csv").write_text(rows)
        for text, place in found.items():
            if not text.startswith("stopover ") or not HARMLESS.match(text.removeprefix("stopover ")):
                continue
            for words in markdown.spelled_out(text):
                if "--follow" in words or "--board" in words or "--ctl" in words:
                    continue
                self.output("stopover host delete far --cascade")
                self.output("stopover host add far --vtep 10.0.0.2")
                if words[1:3] != ["host", "delete"]:
                    for line in (f"network add {VNI}", f"node add {VNI} {FAR_VM} far", f"member add {VNI} far"):
                        self.output(f"stopover {line}")
                words = [f"{words[1]}s.csv" if w.endswith(".csv") else w for w in words]
                done = self.command(words, ns=self.host, **self.env)
                self.figures["commands_run"] += 1
                if done.returncode:
                    self.wrong("failed", f"{place}: `{shlex.join(words)}` failed: {done.stderr.strip()}")

    def api(self):
        """Every path of the control API in the documents answers."""
        names = {m for path in markdown.files() for m in re.findall(r"(?<=GET )/v1/[a-z/]+|(?<=, `)/v1/[a-z/]+", path.read_text())}
        for name in sorted(names):
            c = http.client.HTTPConnection("x")
            c.sock = socket.socket(socket.AF_UNIX)
            c.sock.connect(str(self.ctl))
            c.request("GET", name)
            status = c.getresponse().status
            self.figures["commands_run"] += 1
            if status != 200:
                self.wrong("failed", f"GET {name} answers {status}")

    def metrics(self):
        """The tables of metrics in operating.md have those that the programs serve, and each with its type."""
        served = {}
        for address in METRICS.values():
            page = self.host.run("curl", "-sS", f"http://{address}/metrics")
            served |= dict(re.findall(r"^# TYPE (\S+) (\S+)", page, re.M))
        documented = dict(markdown.metrics(REPO / "docs" / "operating.md"))
        self.figures["metrics"] = len(served)
        for name in sorted(served.keys() | documented.keys()):
            if served.get(name) != documented.get(name):
                self.wrong("bad_metrics", f"docs/operating.md: {name} is documented as {documented.get(name)}, and served as "
                           f"{served.get(name)}")

    def telemetry(self, prefix):
        """DPDK's telemetry, which README describes, answers with README's EAL arguments."""
        path = f"/var/run/dpdk/{prefix}/dpdk_telemetry.v2"
        s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            s.connect(path)
            s.recv(1024)
            s.send(b"/ethdev/list")
            ports = json.loads(s.recv(4096))["/ethdev/list"]
        except OSError as e:
            return self.wrong("failed", f"{path}: no telemetry: {e}")
        if len(ports) != 2:
            self.wrong("failed", f"telemetry has the ports {ports}; 2 were expected")

    def hook(self):
        """The libvirt hook at the target: the board has the lock, and no lock after the VM has not arrived."""
        self.output("stopover host delete far --cascade")
        self.run_checked("stopover host add hv-b --vtep 10.0.0.3")
        conf = self.folder / "libvirt.conf"
        conf.write_text(f"STOPOVER_BOARD={self.env['STOPOVER_BOARD']}\nSTOPOVER_INSECURE=1\nSTOPOVER_HOST=hv-b\n"
                        f"stopover_nodes() {{ echo {VNI}/{VM}; }}\n")
        bin_dir = doc_samples.program("stopover").parent
        env = {"STOPOVER_CONF": str(conf), "PATH": f"{bin_dir}:{os.environ['PATH']}"}
        for words, active in ((("migrate", "begin", "-"), 1), (("release", "end", "-"), 0)):
            argv = self.host.command([str(REPO / "examples/libvirt/qemu"), "web", *words])
            done = subprocess.run(argv, capture_output=True, text=True, timeout=30, env=os.environ | env)
            found = json.loads(self.run_checked("stopover migration list --active --json"))
            if done.returncode or done.stdout or len(found) != active:
                self.wrong("failed", f"after the hook {' '.join(words)} there are {len(found)} migrations, {active} expected; "
                           f"status {done.returncode}: {done.stdout}{done.stderr}")

    def default_socket(self):
        """The control socket has the right mode."""
        # The default folder /run/stopover belongs to the machine, so only the mode is checked.
        mode = self.ctl.stat().st_mode & 0o777
        if mode != 0o660 or not listens(self.ctl):
            self.wrong("failed", f"the control socket has mode {mode:o}")


def place_is_block(place, blocks):
    """Whether a command stands in a block of commands, not in prose."""
    return any(b.place == place and b.kind == "commands" for b in blocks)


def names_of(words):
    """The words before the first option."""
    for w in words:
        if w.startswith("-"):
            return
        yield w


def body(lab):
    docs = Docs(lab)
    docs.links()
    named = docs.configurations()
    found = docs.commands()
    info(f"{docs.figures['blocks']} blocks, {docs.figures['links']} links, {docs.figures['commands']} different commands, "
         f"{docs.figures['configurations']} configurations")
    docs.identity()
    prefix = docs.start(named)
    info("README's board and appliance run")
    docs.samples()
    docs.api()
    docs.metrics()
    docs.telemetry(prefix)
    docs.default_socket()
    docs.run_harmless(found)
    docs.hook()
    return docs.figures


scenario.main("docs", body,
              must_be_zero=["bad_commands", "bad_configurations", "samples_differ", "broken_links", "bad_metrics",
                            "failed"],
              must_be_positive=["blocks", "commands", "commands_run", "configurations", "samples", "links", "metrics"])
