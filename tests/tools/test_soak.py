"""The soak finds what it is meant to find; minutes of it are for people."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time

import pytest

TOOL = "tools/soak.py"


@pytest.fixture
def lives(repository, monkeypatch):
    monkeypatch.syspath_prepend(str(repository / "tools"))
    import soak_lives

    return soak_lives


def test_a_life_that_ends_by_itself(lives, tmp_path):
    words = "training goes from iteration 3 to 9\\niter 8/9\\n--resume: a.pth cannot be used, torn"
    command = [sys.executable, "-c", f"print('''{words}'''); x = bytearray(64 << 20); import time; "
               "time.sleep(1.5)"]  # fmt: skip
    life = lives.live(command, tmp_path, tmp_path / "log", None, "")
    assert (life.ended_by, life.code, life.first, life.last) == ("itself", 0, 3, 8)
    assert life.skipped == 1 and life.memory > 64


@pytest.mark.parametrize("how, code", [("SIGKILL", -9), ("SIGTERM", -15)])
def test_a_life_that_is_ended(how, code, lives, tmp_path):
    command = [sys.executable, "-c", "import time; time.sleep(100)"]
    begun = time.monotonic()
    life = lives.live(command, tmp_path, tmp_path / "log", 0.3, how)
    assert (life.ended_by, life.phase, life.code) == (how, "starting", code)
    assert time.monotonic() - begun < 50


def test_phases(lives, tmp_path):
    log = tmp_path / "log"
    begun, evaluates = "training goes from iteration 0 to 9\n", "Start inference on 6 batches\n"
    for text, phase in [
        ("", "starting"),
        (begun, "training"),
        (begun + evaluates, "evaluating"),
        (begun + evaluates + "results are in results.json\n", "training"),
    ]:
        log.write_text(text)
        assert lives._phase(tmp_path, log) == phase
    (tmp_path / "model_0000001.pth.tmp-7").touch()
    assert lives._phase(tmp_path, log) == "saving"


def test_damage_spares_the_only_checkpoint(lives, tmp_path):
    (tmp_path / "model_0000001.pth").write_bytes(bytes(100))
    assert lives.damage_newest(tmp_path, random.Random(0)) == ""
    kinds = set()
    for seed in range(9):
        (tmp_path / "model_0000002.pth").write_bytes(bytes(100))
        kinds.add(lives.damage_newest(tmp_path, random.Random(seed)))
    assert (tmp_path / "model_0000001.pth").read_bytes() == bytes(100)
    assert (tmp_path / "model_0000002.pth").read_bytes() != bytes(100)
    assert "a flipped bit" in kinds and kinds <= {"a flipped bit", "torn", "empty"}


@pytest.mark.slow
def test_a_short_soak(repository, tmp_path):
    out = tmp_path / "soak"
    done = subprocess.run(
        [sys.executable, str(repository / TOOL), "--minutes", "0.5", "--iterations", "12",
         "--interval", "10", "--output", str(out)],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads((out / "soak.json").read_text())
    assert told["identical"] is True and told["runs"] >= 1 and told["differences"] == []
    assert "kills and signals" in done.stdout
