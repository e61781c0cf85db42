"""A run of a scenario: its directories, namespaces and processes, and their removal.

Everything that a run creates carries its process id: network namespaces are called `so<pid>-NAME`; sockets and
configurations are in /run/stopover-testbed/<pid>/, large files in /dev/shm/so<pid>-NAME, memory in
/dev/hugepages/so<pid>...; containers have it as a label. So it is known whose leftovers they are and whether that run
is still alive. They are removed by the run itself at its end; by a watchdog process if the run was killed (it notices
that a pipe is closed); and at the start of every later run.

Logs and captures stay in target/testbed/<scenario>/ until the scenario's next run.
"""

import atexit
import contextlib
import fcntl
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

from . import hugepages

REPO = pathlib.Path(__file__).resolve().parents[3]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", REPO / "target"))
RUNS = pathlib.Path("/run/stopover-testbed")
SHM = pathlib.Path("/dev/shm")
HUGE = pathlib.Path(hugepages.MOUNT)  # a process without --in-memory leaves files here
DPDK = pathlib.Path("/run/dpdk")  # DPDK leaves a folder for each file prefix here
OUTPUT = REPO / "target" / "testbed"
CACHE = OUTPUT / "cache"


class Failure(Exception):
    """The scenario cannot pass; the message is the reason."""


def sh(*argv, check=True, timeout=60, text=True, stdin=None):
    """Runs a command, returns its standard output. If it fails, raises with its output."""
    done = subprocess.run([str(a) for a in argv], capture_output=True, text=text, timeout=timeout, input=stdin)
    if check and done.returncode != 0:
        output = (done.stderr or done.stdout)
        output = output if text else output.decode(errors="replace")
        raise Failure(f"`{' '.join(map(str, argv))}` ended with status {done.returncode}: {output.strip()}")
    return done.stdout


def info(text):
    """Prints a line with the seconds since the run began."""
    print(f"[{time.monotonic() - info.start:6.1f}] {text}", flush=True)


info.start = time.monotonic()


def _started(pid):
    """When a process started, in clock ticks since boot: distinguishes a running owner from a reused process id."""
    try:
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return stat.rsplit(")", 1)[1].split()[19]


def _namespaces():
    return [line.split()[0] for line in sh("ip", "netns", "list").splitlines() if line.strip()]


def _erase(pid):
    """Removes all that run `pid` may have created, even if it did not get far."""
    run_dir = RUNS / str(pid)
    mine = [ns for ns in _namespaces() if ns.startswith(f"so{pid}-")]
    for _ in range(50):
        alive = {p for ns in mine for p in sh("ip", "netns", "pids", ns, check=False).split()}
        if not alive:
            break
        for p in alive:
            with contextlib.suppress(OSError):
                os.kill(int(p), signal.SIGKILL)
        time.sleep(0.05)
    if (run_dir / "engine").exists():
        from . import containers
        containers.erase(pid)
    for ns in mine:
        sh("ip", "netns", "del", ns, check=False)
    _sweep(pid)
    shutil.rmtree(run_dir, ignore_errors=True)


def _sweep(pid):
    """Removes the files of a run whose processes have ended."""
    for left in [*SHM.glob(f"so{pid}-*"), *(f for d in (DPDK, HUGE) for f in d.glob(f"so{pid}[!0-9]*"))]:
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def runs_alive():
    """Process ids of the runs whose owner is alive."""
    alive = []
    for d in RUNS.glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if _started(d.name) == (d / "owner").read_text():
                alive.append(int(d.name))
    return alive


def reap():
    """Removes what dead runs left. Safe while others run."""
    RUNS.mkdir(parents=True, exist_ok=True)
    alive = set(runs_alive())
    dead = {int(d.name) for d in RUNS.glob("[0-9]*")} - alive
    dead |= {int(m[1]) for ns in _namespaces() if (m := re.match(r"so(\d+)-", ns))} - alive
    for pid in dead:
        if _started(pid) is None or (RUNS / str(pid) / "owner").exists():
            _erase(pid)
    files = {int(m[1]) for d in (SHM, DPDK, HUGE) for f in d.glob("so*") if (m := re.match(r"so(\d+)\D", f.name))}
    for pid in files - alive:
        if _started(pid) is None:
            _sweep(pid)
    if not alive:
        hugepages.release(RUNS)


class Lab:
    """The run in progress, as a context manager: leaving it removes everything."""

    def __init__(self, scenario):
        if os.geteuid() != 0:
            raise Failure("the testbed makes network namespaces and reserves hugepages: run it as root")
        self.scenario = scenario
        self.pid = os.getpid()
        self.dir = RUNS / str(self.pid)
        self.namespaces = []
        self.processes = []
        self.post_mortem = []  # functions that record state before everything is stopped, if the run failed
        reap()
        self.dir.mkdir(parents=True)
        (self.dir / "owner").write_text(_started(self.pid))
        self.logs = self._claim_logs()
        self._watch()
        atexit.register(self.close)
        for s in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(s, self._interrupted)

    def _claim_logs(self):
        """target/testbed/<scenario>, or a folder beside it if another run of the scenario has that."""
        OUTPUT.mkdir(parents=True, exist_ok=True)
        self._lock = open(OUTPUT / f".{self.scenario}.lock", "w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            logs = OUTPUT / self.scenario
        except BlockingIOError:
            logs = OUTPUT / f"{self.scenario}.{self.pid}"
        shutil.rmtree(logs, ignore_errors=True)
        logs.mkdir()
        return logs

    def _watch(self):
        """Starts the watchdog, which cleans up when this process has ended."""
        read, self._lifeline = os.pipe()
        sys.stdout.flush()
        if os.fork() == 0:
            os.setsid()
            for s in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(s, signal.SIG_IGN)
            os.close(self._lifeline)
            self._lock.close()
            null = os.open(os.devnull, os.O_RDWR)
            for fd in (0, 1, 2):
                os.dup2(null, fd)
            if os.read(read, 1) == b"":
                with contextlib.suppress(Exception):
                    _erase(self.pid)
                    if not runs_alive():
                        hugepages.release(RUNS)
            os._exit(0)
        os.close(read)

    def _interrupted(self, number, _frame):
        for s in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(s, signal.SIG_IGN)
        raise SystemExit(f"interrupted by signal {number}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def stop(self):
        """Ends all processes, the last started first. Returns complaints about those that did not end in order."""
        complaints = []
        for p in reversed(self.processes):
            why = p.stop()
            if why:
                complaints.append(why)
        self.processes = []
        return complaints

    def restart(self):
        """Back to the start of the run: no process, no namespace, no file except logs. Returns what `stop` does."""
        complaints = self.stop()
        self.post_mortem.clear()
        for ns in self.namespaces:
            sh("ip", "netns", "del", ns.full)
        self.namespaces = []
        _sweep(self.pid)
        for left in self.dir.iterdir():
            if left.is_dir():
                shutil.rmtree(left)
            elif left.name != "owner":
                left.unlink()
        return complaints

    def close(self):
        """Stops and removes everything. Idempotent."""
        if self.pid != os.getpid() or self._lifeline is None:
            return
        try:
            self.stop()
        finally:
            _erase(self.pid)
            os.write(self._lifeline, b".")
            os.close(self._lifeline)
            self._lifeline = None
            if not runs_alive():
                hugepages.release(RUNS)

    def hugepages(self, mebibytes):
        """Makes so much hugepage memory free for this run."""
        hugepages.reserve(RUNS, mebibytes)
