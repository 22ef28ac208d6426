"""Commands that must not be able to block a test run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
DEADLINE = 300.0  # seconds; only a hang takes that long


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str


class Command:
    """A running command, in a session of its own so that all of its processes can be ended.

    Args:
        arguments: of Python, such as a script and its options.
        environment: added to that of the test; what starts with RANK, WORLD_SIZE, LOCAL_, MASTER_
            or SLURM_ there is left out.
    """

    def __init__(self, *arguments: object, environment: Mapping[str, object] | None = None) -> None:
        launched = ("RANK", "WORLD_SIZE", "LOCAL_", "MASTER_", "SLURM_", "TORCHELASTIC_")
        variables = {k: v for k, v in os.environ.items() if not k.startswith(launched)}
        paths = [REPOSITORY / "projects", REPOSITORY / "tests" / "engine"]
        paths = [*map(str, paths), *variables.get("PYTHONPATH", "").split(os.pathsep)]
        # The folder of another build of detectron2 has to stay in front.
        variables["PYTHONPATH"] = os.pathsep.join(filter(None, [*paths[2:], *paths[:2]]))
        variables.update(OMP_NUM_THREADS="1", GLOO_SOCKET_IFNAME="lo")
        variables.update({k: str(v) for k, v in (environment or {}).items()})
        self.process = subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            start_new_session=True, cwd=REPOSITORY,
        )  # fmt: skip

    def wait(self, seconds: float = DEADLINE) -> Done:
        """Waits for the end; after the deadline ends all processes and shows what they said."""
        try:
            out, err = self.process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            out, err = self.process.communicate()
            raise AssertionError(f"hangs: {self.process.args}\n{out}\n{err}") from None
        return Done(self.process.returncode, out, err)

    def end(self) -> None:
        """Ends what is left of it."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        self.process.communicate()


def run(*arguments: object, environment: Mapping[str, object] | None = None) -> Done:
    """Runs a command to its end."""
    return Command(*arguments, environment=environment).wait()
