"""The tool `board-churn` (testbed/tools): a host that claims nodes, and an operator who declares and deletes others."""

from ..lab import Failure
from ..lab.process import Process
from .stopover import program


class BoardChurn:
    """Runs until it is stopped. The host `churn` claims `steady` nodes of network `vni` for good and `turns` others by
    turns; the operator declares nodes of `declare_host` in `declare_vni`."""

    host = "churn"

    def __init__(self, lab, ns, board, vni, steady, turns, declare_vni, declare_host):
        self.process = Process(lab, "board-churn", [
            program("board-churn"), "--board", board.endpoint, "--host", self.host, "--vtep", "10.0.9.1", "--vni", vni,
            "--steady", steady, "--turns", turns, "--every-ms", 10, "--declare-vni", declare_vni, "--declare-host",
            declare_host], ns=ns, env={"RUST_LOG": "info"}, pipes=True)
        self.steady = {(vni, f"02:c0:00:00:00:{n:02x}") for n in range(steady)}

    def _send(self, word):
        self.process.popen.stdin.write(f"{word}\n")
        self.process.popen.stdin.flush()

    def pause(self):
        """Stops all changes; the steady claims stay."""
        self._send("pause")
        answer = self.process.popen.stdout.readline().strip()
        if answer != "paused":
            raise Failure(f"board-churn answered `pause` with `{answer}`")

    def go(self):
        """Continues after `pause`."""
        self._send("go")

    def accept(self):
        """Follows another board, if one answers in place of its own. Returns whether one does."""
        self._send("accept")
        return self.process.popen.stdout.readline().strip() == "accepted"
