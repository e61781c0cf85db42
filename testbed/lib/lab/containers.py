"""Containers, by docker or podman; also on a machine that reaches no registry or has hybrid cgroups.

Docker is used if its daemon answers, else podman. STOPOVER_ENGINE=docker|podman overrides that. With hybrid cgroups
podman's images are in target/testbed/cache/.
"""

import functools
import os
import pathlib
import shutil
import subprocess

from .netns import Namespace
from .run import CACHE, REPO, RUNS, Failure, info, sh
from .wait import until

DEBIAN = "docker.io/library/debian:bookworm-slim"
LABEL = "stopover-testbed"
# What an appliance or a tenant on DPDK needs; --privileged is not.
RIGHTS = ["--cap-add", "NET_ADMIN", "--cap-add", "NET_RAW", "--cap-add", "IPC_LOCK",
          "-v", "/dev/hugepages:/dev/hugepages"]


class Engine:
    """How docker or podman is called here: words before the verb, and extra words for `build` and `run`."""

    def __init__(self, argv, build=(), run=()):
        self.argv, self.build_words, self.run_words = list(argv), list(build), list(run)
        self.name = argv[0]

    def __call__(self, *argv, **kw):
        return sh(*self.argv, *argv, **kw)


@functools.cache
def engine():
    """The engine of this machine."""
    wanted = os.environ.get("STOPOVER_ENGINE")
    if wanted in (None, "docker") and shutil.which("docker"):
        if subprocess.run(["docker", "info"], capture_output=True, timeout=20).returncode == 0:
            return Engine(["docker"])
    if wanted in (None, "podman") and shutil.which("podman"):
        if pathlib.Path("/sys/fs/cgroup/cgroup.controllers").exists():
            return Engine(["podman"])
        # Hybrid cgroups: crun does not work with them, runc does; process limits cannot be raised; the overlay file
        # system may be missing.
        driver = "overlay" if "\toverlay\n" in pathlib.Path("/proc/filesystems").read_text() else "vfs"
        store = CACHE / f"images-{driver}"
        limits = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000"]
        return Engine(["podman", "--runtime", "runc", "--cgroup-manager", "cgroupfs", "--storage-driver", driver,
                       "--root", store, "--runroot", RUNS / f"podman-{driver}"],
                      build=["--isolation=chroot", "--network=host", *limits], run=limits)
    raise Failure(f"no container engine ({wanted or 'docker or podman'}): `make deps` installs podman")


def _has(image):
    return bool(engine()("images", "-q", image).strip())


def base_image():
    """Debian bookworm: pulled, or made by debootstrap if no registry can be reached."""
    e, local = engine(), "localhost/stopover-debian:bookworm"
    if _has(DEBIAN):
        return DEBIAN
    if _has(local):
        return local
    if subprocess.run([*e.argv, "pull", "-q", DEBIAN], capture_output=True, timeout=300).returncode == 0:
        return DEBIAN
    info("no registry answers: making Debian's base image with debootstrap")
    work = CACHE / f"debian.{os.getpid()}"
    CACHE.mkdir(parents=True, exist_ok=True)
    try:
        sh("debootstrap", "--variant=minbase", "bookworm", work, "http://deb.debian.org/debian", timeout=600)
        for waste in ("var/lib/apt/lists", "var/cache/apt/archives", "usr/share/doc", "usr/share/locale"):
            shutil.rmtree(work / waste)
        with subprocess.Popen(["tar", "-C", work, "-c", "."], stdout=subprocess.PIPE) as tar:
            subprocess.run([*map(str, e.argv), "import", "-", local], stdin=tar.stdout, check=True, timeout=300,
                           capture_output=True)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return local


def build(tag, dockerfile, context, log, *words):
    """Builds an image; the engine's output goes to `log`."""
    e = engine()
    argv = [*e.argv, "build", *e.build_words, "-t", tag, "-f", dockerfile, "--build-arg", f"BASE={base_image()}",
            *words, context]
    with open(log, "ab") as out:
        done = subprocess.run([str(a) for a in argv], stdout=out, stderr=out, timeout=1800)
    if done.returncode:
        tail = "\n    ".join(log.read_text(errors="replace").splitlines()[-8:])
        raise Failure(f"building {tag} failed; the end of the output:\n    {tail}")


def images(lab, binaries):
    """Builds the image of Stopover from existing binaries, and the tenant's. Returns both tags."""
    context = lab.dir / "image"
    context.mkdir()
    for b in binaries:
        sh("strip", "-o", context / b.name, b)
    log = lab.logs / "images.log"
    build("localhost/stopover:testbed", REPO / "Dockerfile", context, log, "--target", "prebuilt")
    build("localhost/stopover-tenant:testbed", REPO / "testbed" / "tenant.Dockerfile", REPO / "testbed", log)
    engine()("image", "prune", "-f", timeout=120)
    return "localhost/stopover:testbed", "localhost/stopover-tenant:testbed"


class Container:
    """A running container without network; `ns` is its network namespace, for cables."""

    def __init__(self, lab, name, image, command, *words):
        self.lab, self.name, self.full = lab, name, f"so{lab.pid}-{name}"
        e = engine()
        (lab.dir / "engine").write_text(e.name)
        self.log = lab.logs / f"{name}.log"
        e("run", "-d", "--name", self.full, "--label", f"{LABEL}={lab.pid}", "--network", "none", *e.run_words,
          *RIGHTS, "-v", f"{lab.dir}:{lab.dir}", *words, image, *command, timeout=120)
        pid = e("inspect", "-f", "{{.State.Pid}}", self.full).strip()
        if pid == "0":
            raise Failure(f"container {name} ended at once; its output:\n    {self.output()}")
        self.ns = Namespace(lab, name, pid=pid)
        lab.processes.append(self)

    def output(self, lines=8):
        """The last lines of its output."""
        e = engine()
        done = subprocess.run([str(a) for a in [*e.argv, "logs", self.full]], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=60)
        self.log.write_text(done.stdout)
        return "\n    ".join(done.stdout.rstrip().splitlines()[-lines:])

    def alive(self):
        """Whether its first process runs."""
        return engine()("inspect", "-f", "{{.State.Running}}", self.full).strip() == "true"

    def check(self):
        """Raises if it has ended."""
        if not self.alive():
            raise Failure(f"container {self.name} ended by itself; its last output:\n    {self.output()}")

    def wait_for(self, what, true, timeout=20):
        """Waits until `true()`; the container must stay alive meanwhile."""
        try:
            until(f"{self.name}: {what}", true, timeout, every=0.1, check=self.check)
        except Failure as e:
            raise Failure(f"{e}; its last output:\n    {self.output()}") from None

    def run(self, *argv, **kw):
        """Runs a command inside."""
        return engine()("exec", self.full, *argv, **kw)

    def stop(self):
        """Ends it as `docker stop` does. Returns a complaint if its program did not end in order, else None."""
        alive = self.alive()
        engine()("stop", "-t", "10", self.full, timeout=60)
        self.output()
        status = int(engine()("inspect", "-f", "{{.State.ExitCode}}", self.full).strip())
        engine()("rm", self.full, timeout=60)
        if not alive:
            return f"container {self.name} had ended by itself with status {status}"
        return None if status in (0, 143) else f"container {self.name} answered SIGTERM with status {status}"


def erase(pid):
    """Removes the containers of run `pid`."""
    e = engine()
    for c in e("ps", "-aq", "--filter", f"label={LABEL}={pid}", check=False, timeout=120).split():
        e("rm", "-f", c, check=False, timeout=120)
