"""Hugepages for the appliances: mounts hugetlbfs if it is missing, raises the kernel's reservation as needed, and gives
back the added pages when the last run ends. A reservation that others made, or changed since, remains."""

import fcntl
import os
import pathlib
import subprocess

NR = pathlib.Path("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages")
FREE = pathlib.Path("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages")
MOUNT = "/dev/hugepages"


def _locked(runs):
    lock = open(runs / "hugepages.lock", "w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    return lock


def reserve(runs, mebibytes):
    """Makes `mebibytes` of 2 MiB pages free, or raises RuntimeError saying how many there are."""
    if not os.path.ismount(MOUNT):
        os.makedirs(MOUNT, exist_ok=True)
        subprocess.run(["mount", "-t", "hugetlbfs", "nodev", MOUNT], check=True)
    need = (mebibytes + 1) // 2
    with _locked(runs):
        total, free = int(NR.read_text()), int(FREE.read_text())
        if free >= need:
            return
        note = runs / "hugepages"
        before = note.read_text().split()[0] if note.exists() else str(total)
        NR.write_text(str(total + need - free))
        note.write_text(f"{before} {NR.read_text().strip()}")
        free = int(FREE.read_text())
        if free < need:
            raise RuntimeError(
                f"{free} hugepages of 2 MiB are free, {need} are needed, and the kernel found no memory for more; "
                "hint: free some memory, or reserve them at boot with hugepages=N")


def release(runs):
    """Undoes `reserve` when no run is alive, unless others have changed the number."""
    note = runs / "hugepages"
    if not note.exists():
        return
    with _locked(runs):
        if note.exists():
            before, ours = note.read_text().split()
            if NR.read_text().strip() == ours:
                NR.write_text(before)
            note.unlink()
