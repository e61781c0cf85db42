"""Virtual machines: Debian's kernel and busybox in an initramfs of a few megabytes, in QEMU without KVM. Their NIC is
on a vhost-user socket of an appliance.

The kernel package is downloaded once into target/testbed/cache/ and not installed. The serial console of a guest is
logged. On a virtio port, which loses no byte, the guest runs command lines and answers with their output and status.

A guest can be migrated to the socket of another appliance, also while a command runs in it: the `Guest` stays the same,
but its QEMU process (a `Machine`) is another.
"""

import os
import pathlib
import re
import shutil
import socket
import stat
import subprocess
import time

from ..lab import CACHE, Failure, sh
from ..lab.process import Process, listens
from ..product.stopover import program
from .qmp import Qmp

MODULES = ["virtio_ring", "virtio", "virtio_pci_modern_dev", "virtio_pci_legacy_dev", "virtio_pci", "failover",
           "net_failover", "virtio_net", "virtio_console"]  # in loading order
# Those that a guest can load for VXLAN and ESP, in this order.
ESP_MODULES = ["xfrm_algo", "xfrm_user", "esp4", "gf128mul", "ghash-generic", "ctr", "gcm", "sha512_generic",
               "drbg", "seqiv", "udp_tunnel", "ip6_udp_tunnel", "vxlan"]
# The memory of a guest. It must not be a multiple of 256 KiB: for such blocks QEMU before 9.0 reads the dirty bitmap 64
# pages at a time and does not update the emulated CPU's TLB; its next stores to these pages are missing after a
# migration, and guests crashed ("physmem: Fix migration dirty bitmap coherency with TCG memory access").
MEMORY_KIB = 128 * 1024 + 8
QUEUE = 1024  # frames in a ring of the NIC, the most that QEMU allows: the guest may get no CPU for a while
TOOL = "guest-tools"  # testbed/guest
SIMPLE = "guest_csum=off,guest_tso4=off,guest_tso6=off,guest_ecn=off,guest_ufo=off,"
# Bits of the virtio feature word (virtio 1.2 section 5.1.3): offloads.
FEATURES = {"csum": 0, "guest_csum": 1, "guest_tso4": 7, "guest_tso6": 8, "host_tso4": 11, "host_tso6": 12}

INIT = """#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmp /tmp
for m in %s; do insmod /modules/$m.ko || echo "no module $m"; done
ip link set lo up
for k in accept_dad dad_transmits autoconf accept_ra router_solicitations; do
    echo 0 > /proc/sys/net/ipv6/conf/default/$k
    echo 0 > /proc/sys/net/ipv6/conf/eth0/$k
done
until [ -c /dev/vport0p1 ]; do usleep 10000; done
exec <> /dev/vport0p1 >&0 2>&1
echo "##guest ready##"
while :; do
    while read -r line; do
        sh -c "$line"
        printf '\\n##%%d##\\n' $?
    done
    usleep 50000 # nobody is connected
done
""" % " ".join(MODULES)


def cpio(entries):
    """A newc archive (Documentation/driver-api/early-userspace/buffer-format) of (path, mode, data, device)."""
    out = bytearray()
    for number, (path, mode, data, device) in enumerate([*entries, ("TRAILER!!!", 0, b"", (0, 0))], 1):
        name = path.encode() + b"\0"
        fields = [number, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(name), 0]
        out += b"070701" + b"".join(b"%08X" % f for f in fields) + name
        out += b"\0" * (-len(out) % 4) + data
        out += b"\0" * (-len(out) % 4)
    return bytes(out)


def images():
    """The kernel of the guests, and the archive of Debian's files for them; made on first use. Returns both paths."""
    kernel, base, made_from = CACHE / "vmlinuz", CACHE / "base.cpio", CACHE / "base.modules"
    modules = " ".join(MODULES + ESP_MODULES)
    if kernel.exists() and base.exists() and made_from.exists() and made_from.read_text() == modules:
        return kernel, base
    CACHE.mkdir(parents=True, exist_ok=True)
    work = CACHE / f"kernel.{os.getpid()}"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    try:
        _download(work)
        sh("dpkg-deb", "-x", next(work.glob("*.deb")), work / "root", timeout=300)
        found = {p.stem: p for p in (work / "root/lib/modules").rglob("*.ko")}
        entries = [(d, stat.S_IFDIR | 0o755, b"", (0, 0))
                   for d in ("bin", "dev", "etc", "modules", "proc", "sys", "tmp")]
        entries += [("dev/console", stat.S_IFCHR | 0o600, b"", (5, 1)), ("dev/null", stat.S_IFCHR | 0o666, b"", (1, 3))]
        entries += [("bin/busybox", stat.S_IFREG | 0o755, pathlib.Path("/bin/busybox").read_bytes(), (0, 0))]
        entries += [(f"modules/{m}.ko", stat.S_IFREG | 0o644, found[m].read_bytes(), (0, 0)) for m in MODULES + ESP_MODULES]
        (work / "base.cpio").write_bytes(cpio(entries))
        os.replace(work / "base.cpio", base)
        os.replace(next((work / "root/boot").glob("vmlinuz-*")), kernel)
        made_from.write_text(modules)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return kernel, base


def initramfs(lab):
    """The kernel and this run's initramfs: two archives in one file; the kernel unpacks both."""
    kernel, base = images()
    path = lab.dir / "initramfs.cpio"
    if not path.exists():
        ours = [("init", stat.S_IFREG | 0o755, INIT.encode(), (0, 0)),
                (f"bin/{TOOL}", stat.S_IFREG | 0o755, program(TOOL).read_bytes(), (0, 0))]
        path.write_bytes(base.read_bytes() + cpio(ours))
    return kernel, path


def _download(folder):
    """Downloads the .deb of Debian's present cloud kernel into `folder`."""
    for attempt in (1, 2):
        depends = sh("apt-cache", "depends", "linux-image-cloud-amd64", check=False)
        package = re.search(r"Depends: (linux-image-\d\S*)", depends)
        try:
            if package:
                sh("sh", "-c", f"cd {folder} && apt-get download -q {package[1]}", timeout=300)
                return
        except Failure:
            if attempt == 2:
                raise
        if attempt == 1:  # apt's lists are missing or too old
            sh("apt-get", "update", "-q", timeout=300)
    raise Failure("apt does not have linux-image-cloud-amd64, the kernel of the guests")


def hardware(kernel, archive, cmd, qmp, cpus=1):
    """QEMU's command line for a guest with two sockets, without a NIC."""
    return ["qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", "-M", "q35", "-m", f"{MEMORY_KIB}K",
            "-smp", str(cpus), "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
            "-object", f"memory-backend-memfd,id=mem,size={MEMORY_KIB}K,share=on", "-numa", "node,memdev=mem",
            "-kernel", kernel, "-initrd", archive, "-append", "console=ttyS0 quiet panic=-1 nokaslr mitigations=off",
            "-serial", "stdio",
            "-device", "virtio-serial-pci,vectors=0,max_ports=2",
            "-chardev", f"socket,id=tty,path={cmd},server=on,wait=off",
            "-device", "virtserialport,chardev=tty,nr=1",
            "-chardev", f"socket,id=qmp,path={qmp},server=on,wait=off", "-mon", "chardev=qmp,mode=control"]


class Machine:
    """One QEMU process and its two sockets: `line`, the command channel of the guest, and `qmp`. An `incoming` machine
    waits for a guest that migrates to it; a `paused` one does not let the guest run before `cont`. `number`
    distinguishes the machines of a guest. With `reconnect` it tries every second to reach an appliance that has gone
    away; with `vhost_server` the appliance connects to it. The NIC has so many queue `pairs`; Linux enables as many of
    them as the guest has `cpus`. Its rings can be `packed`. If it is `simple` it takes no frames with unfinished checksums, and no uncut segments."""

    def __init__(self, lab, name, number, vhost, mac, ns=None, incoming=False, paused=False, reconnect=False, cpus=1,
                 pairs=1, simple=False, vhost_server=False, packed=False):
        kernel, archive = initramfs(lab)
        cmd, qmp, self.incoming = (lab.dir / f"{name}.{number}.{kind}" for kind in ("cmd", "qmp", "in"))
        # Without MSI-X (`vectors=0`): QEMU 7.2 with TCG crashes when vhost-user uses it.
        argv = [*hardware(kernel, archive, cmd, qmp, cpus),
                "-chardev", f"socket,id=c0,path={vhost}{',reconnect=1' if reconnect else ''}"
                            f"{',server=on,wait=off' if vhost_server else ''}",
                "-netdev", f"vhost-user,id=n0,chardev=c0{f',queues={pairs}' if pairs > 1 else ''}",
                "-device", f"virtio-net-pci,netdev=n0,mac={mac},romfile=,vectors=0,{'mq=on,' if pairs > 1 else ''}"
                           f"{SIMPLE if simple else ''}{'packed=on,' if packed else ''}"
                           f"rx_queue_size={QUEUE},tx_queue_size={QUEUE}",
                *(["-incoming", "defer"] if incoming else []), *(["-S"] if paused else [])]
        self.process = Process(lab, f"guest-{name}", argv, ns=ns)
        self.process.wait_for("a connection to QMP", lambda: listens(qmp), 15)
        self.qmp = Qmp(name, qmp)
        self.line = socket.socket(socket.AF_UNIX)
        self.line.connect(str(cmd))
        if incoming:
            self.qmp.prepare()
            self.qmp.listen(self.incoming)

    def quit(self):
        """Ends it in order, which frees the appliance's socket."""
        self.process.ended_by_us = True
        self.line.close()
        self.qmp.quit()
        self.process.wait_end(10)

    def kill(self):
        """Ends it by SIGKILL, which frees the appliance's socket."""
        self.process.kill()
        self.line.close()
        self.qmp.close()

    def state(self):
        """QEMU's status, such as `running`, `paused`, `inmigrate`, `postmigrate`; `dead` if it has ended."""
        try:
            return self.qmp.run("query-status")["status"] if self.process.alive() else "dead"
        except Failure:  # it is ending
            self.process.wait_end(5)
            return "dead"

    def connected(self):
        """Whether its NIC is connected to an appliance."""
        devices = {d["label"]: d["filename"] for d in self.qmp.run("query-chardev")}
        return not devices["c0"].startswith("disconnected")


class Guest:
    """A virtual machine. `vhost` is the socket of the appliance's port, which must listen; `hardware` as of Machine."""

    tool = f"/bin/{TOOL}"
    tmp = "/tmp"

    def __init__(self, lab, name, vhost, mac, ns=None, **hardware):
        self.lab, self.name, self.mac, self.hardware = lab, name, mac, hardware
        self.place = vhost, mac, ns
        self.machines = 1
        self.machine = Machine(lab, name, 1, *self.place, **hardware)
        self.incoming = None  # the machine to which it migrates
        self.received = b""

    def restart(self):
        """Starts it again, after its machine was killed."""
        self.machines += 1
        self.received = b""
        self.machine = Machine(self.lab, self.name, self.machines, *self.place, **self.hardware)
        self.booted()

    @property
    def process(self):
        """The QEMU in which it runs now."""
        return self.machine.process

    def target(self, vhost, ns=None, paused=False):
        """A machine at another socket that waits for this guest."""
        self.machines += 1
        self.incoming = Machine(self.lab, self.name, self.machines, vhost, self.mac, ns, incoming=True, paused=paused,
                                **self.hardware)
        return self.incoming

    def begin(self, target, **limits):
        """Begins to migrate to it. `complete` must follow. For `limits` see Qmp.prepare."""
        self.machine.qmp.prepare(**limits)
        self.machine.qmp.migrate(target.incoming)

    def complete(self, target, timeout=30):
        """Waits until the guest runs in `target`, and ends the source machine. Returns milliseconds: the downtime and
        the total time that QEMU reports, and the time between its events STOP and RESUME."""
        source = self.machine
        report = source.qmp.ended(timeout)
        if report["status"] != "completed":
            why = report.get("error-desc", "no reason given")
            raise Failure(f"migration of guest {self.name} {report['status']}: {why}")
        _, _, resumed = target.qmp.wait("the guest's start", lambda n, _: n == "RESUME", timeout)
        stopped = source.qmp.seen("STOP")
        self.moved(target)
        source.quit()
        return {"downtime_ms": report["downtime"], "total_ms": report["total-time"],
                "paused_ms": round((resumed - stopped) * 1e3, 1)}

    def migrate(self, vhost, ns=None, timeout=30, **limits):
        """Migrates it to another socket; see `complete`."""
        target = self.target(vhost, ns)
        self.begin(target, **limits)
        return self.complete(target, timeout)

    def moved(self, machine):
        """From now on the guest is in this machine. Reads the rest of the output of the machine that it left."""
        if self.machine.process.alive():
            self.machine.line.settimeout(0)
            try:
                while more := self.machine.line.recv(65536):
                    self.received += more
            except BlockingIOError:
                pass
        self.machine, self.incoming = machine, None

    def _wait(self, pattern, timeout):
        end = time.monotonic() + timeout
        while not (m := re.search(pattern, self.received)):
            self.process.check()
            left = end - time.monotonic()
            if left <= 0:
                raise Failure(f"guest {self.name} did not answer within {timeout} s; "
                              f"output so far: {self.received[-300:]!r}")
            self.machine.line.settimeout(min(left, 0.5))
            try:
                self.received += self.machine.line.recv(65536)
            except TimeoutError:
                pass
        before, self.received = self.received[:m.start()], self.received[m.end():]
        return before.decode(errors="replace"), m

    def booted(self, timeout=60):
        """Waits until the guest takes commands."""
        self._wait(rb"##guest ready##\r?\n", timeout)

    def run(self, command, timeout=30, check=True):
        """Runs a command line in the guest; returns its output, or (status, output) with check=False."""
        self.start(command)
        return self.finish(command, timeout, check)

    def start(self, command):
        """Sends a command line without waiting for it; `finish` must follow."""
        try:
            self.machine.line.sendall(command.encode() + b"\n")
        except OSError as e:
            self.process.check()
            raise Failure(f"guest {self.name} takes no commands: {e}") from None

    def finish(self, command="", timeout=30, check=True):
        """Waits for the end of the last command."""
        text, m = self._wait(rb"\n##(\d+)##\r?\n", timeout)
        status = int(m[1])
        if not check:
            return status, text
        if status:
            raise Failure(f"in guest {self.name}, `{command}` ended with status {status}: {text.strip()}")
        return text

    def features(self):
        """Which of FEATURES the driver of the guest negotiated."""
        bits = self.run("cat /sys/class/net/eth0/device/features").strip()
        return {name: bits[bit] == "1" for name, bit in FEATURES.items()}

    def address(self, *addresses):
        """Adds addresses (with prefix length) and sets the NIC up."""
        for a in addresses:
            self.run(f"ip addr add {a} dev eth0")
        self.run("ip link set eth0 up")

    def ping(self, ip, count=20, interval=0.1, size=56):
        """Pings from inside; returns sent, received, lost, duplicated."""
        _, text = self.run(f"ping -c {count} -i {interval} -s {size} -W 3 {ip}", timeout=count * interval + 20,
                           check=False)
        m = re.search(r"(\d+) packets transmitted, (\d+) packets received(?:, (\d+) duplicates)?", text)
        if not m:
            raise Failure(f"ping in guest {self.name} printed: {text.strip()}")
        return {"sent": int(m[1]), "received": int(m[2]), "lost": int(m[1]) - int(m[2]), "duplicated": int(m[3] or 0)}


class Shell:
    """Runs command lines with busybox in a namespace, as a Guest does in a virtual machine."""

    def __init__(self, lab, ns):
        self.tool = program(TOOL)
        self.ns, self.name, self.tmp = ns, ns.name, lab.dir / ns.name
        self.tmp.mkdir()

    def run(self, command, timeout=30, check=True):
        """As `Guest.run`."""
        done = subprocess.run(self.ns.command(["busybox", "sh", "-c", command]), stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, text=True, timeout=timeout)
        if not check:
            return done.returncode, done.stdout
        if done.returncode:
            raise Failure(f"in {self.name}, `{command}` ended with status {done.returncode}: {done.stdout.strip()}")
        return done.stdout


def tcp(sender, receiver, ip, mebibytes=4, port=5000, timeout=90):
    """Sends random bytes from one Guest (or Shell) to another over TCP and compares them. Returns the number of bytes
    that arrived intact (0 if the digests differ), the seconds that took, and any error."""
    data, got, end, never = f"{sender.tmp}/data", f"{receiver.tmp}/got", f"{receiver.tmp}/end", f"{receiver.tmp}/never"
    sender.run(f"dd if=/dev/urandom of={data} bs=1M count={mebibytes} 2>/dev/null", timeout=timeout)
    want = sender.run(f"md5sum < {data}", timeout=timeout).split()[0]
    # The receiver's nc would close the connection at the end of its input; a pipe without a writer has no end.
    receiver.run(f"rm -f {got} {end}; [ -p {never} ] || mkfifo {never}")
    receiver.run(f"(nc -l -p {port} <> {never} > {got} 2>/dev/null; touch {end}) > /dev/null 2>&1 &")
    time.sleep(0.3)
    began = time.monotonic()
    status, text = sender.run(f"timeout {timeout - 10} nc {ip} {port} < {data}", timeout=timeout, check=False)
    took = time.monotonic() - began
    if status:
        return 0, took, f"the sender's nc ended with status {status}: {text.strip()}"
    receiver.run(f"for i in $(seq 100); do [ -e {end} ] && break; usleep 50000; done", timeout=20)
    size, digest = receiver.run(f"wc -c < {got}; md5sum < {got}", timeout=timeout).split()[:2]
    if digest != want:
        return 0, took, f"{size} bytes arrived with digest {digest}, sent {mebibytes} MiB with {want}"
    return int(size), took, ""
