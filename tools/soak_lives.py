"""The lives of a run under the soak: started, watched, ended by a signal, damaged."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Life:
    """One process of a run, from its start to its end.

    Attributes:
        ended_by: "SIGKILL", "SIGTERM", or "itself".
        phase: what it was doing then: starting, training, evaluating, saving, ending.
        code: its exit code.
        first, last: iterations it trained, from and up to (not including); equal if none.
        skipped: checkpoints that it found unsound and passed over.
        memory: the most that the tree of processes held, in MiB; pages they share count once.
    """

    ended_by: str
    phase: str
    code: int
    first: int
    last: int
    skipped: int
    memory: float


class MemoryWatch(threading.Thread):
    """Samples the memory of all processes of a session every half second."""

    def __init__(self, session: int) -> None:
        super().__init__(daemon=True)
        self.session, self.most, self.ended = session, 0.0, threading.Event()

    def run(self) -> None:
        while not self.ended.wait(0.5):
            self.most = max(self.most, sum(map(_memory, _session(self.session))))


def _session(number: int) -> list[int]:
    found = []
    for entry in os.listdir("/proc"):
        try:
            if entry.isdigit() and os.getsid(int(entry)) == number:
                found.append(int(entry))
        except (ProcessLookupError, PermissionError):
            continue
    return found


def _memory(process: int) -> float:
    """Proportional set size in MiB; 0 for a process that has gone."""
    try:
        text = Path(f"/proc/{process}/smaps_rollup").read_text()
    except OSError:
        return 0.0
    match = re.search(r"^Pss:\s+(\d+) kB", text, re.MULTILINE)
    return int(match[1]) / 1024 if match else 0.0


def live(command: list[str], folder: Path, log: Path, seconds: float | None, how: str) -> Life:
    """Starts a run and ends it after so many seconds; None leaves it to its own end.

    Args:
        command: of the run, whose output directory is ``folder``.
        folder: see above.
        log: receives what this life says, and nothing else.
        seconds: until it is ended, from its start.
        how: the name of the signal.
    """
    with open(log, "wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, start_new_session=True)
    watch = MemoryWatch(process.pid)
    watch.start()
    ended_by, phase = "itself", "ending"
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        ended_by, phase = how, _phase(folder, log)
        os.killpg(process.pid, signal.Signals[how])
        if process.wait() == 0 and how == "SIGKILL":
            ended_by, phase = "itself", "ending"  # it was over when the signal came
    watch.ended.set()
    watch.join()
    text = log.read_text(errors="replace")
    started = re.search(r"training goes from iteration (\d+)", text)
    first = int(started[1]) if started else 0
    done = re.findall(r"\biter (\d+)/", text)
    last = int(done[-1]) if done else first
    skipped = len(re.findall(r"--resume: \S+ cannot be used", text))
    return Life(ended_by, phase, process.returncode, first, max(first, last), skipped, watch.most)


def _phase(folder: Path, log: Path) -> str:
    """What a run is doing, by the files and the last words of it."""
    if list(folder.glob("*.tmp-*")):
        return "saving"
    text = log.read_text(errors="replace")
    begun, started = text.rfind("training goes from"), text.rfind("Start inference")
    if begun < 0:
        return "starting"
    return "evaluating" if started > max(begun, text.rfind("results are in")) else "training"


def damage_newest(folder: Path, chance: random.Random) -> str:
    """Damages the newest numbered checkpoint if an older one is there; returns what was done."""
    found = sorted(folder.glob("model_0*.pth"))
    if len(found) < 2:
        return ""
    content = bytearray(found[-1].read_bytes())
    if not content:  # damaged before, and nothing was saved since
        return ""
    kind = chance.choice(["a flipped bit", "torn", "empty"])
    if kind == "a flipped bit":
        content[len(content) // 2] ^= 1 << chance.randrange(8)
    else:
        del content[0 if kind == "empty" else chance.randrange(len(content)) :]
    found[-1].write_bytes(bytes(content))
    # The end of the run may have been saved too, from the same iteration or a later one.
    for name in ("model_final.pth", "last_checkpoint"):
        (folder / name).unlink(missing_ok=True)
    return kind


def pause() -> None:
    """Lets the loader's workers of a killed run notice that they are alone."""
    time.sleep(0.5)
