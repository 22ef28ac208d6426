"""The benchmark of the operator: its arms compute the same, its figures say what was measured."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest
import torch


@pytest.fixture(scope="module", autouse=True)
def tools(repository):
    """The tools import each other by name, as scripts do."""
    sys.path.insert(0, str(repository / "tools"))
    yield
    sys.path.remove(str(repository / "tools"))


@pytest.fixture(scope="module")
def benchmarking():
    import benchmarking

    return benchmarking


@pytest.fixture(params=[None, 7], ids=["encoder", "decoder"])
def problem(request):
    import op_arms

    return op_arms.problem(64, 96, request.param)


def test_all_forms_compute_the_same_and_so_do_their_gradients(problem):
    import op_arms
    import op_forms

    forms = (op_arms.official, op_arms.per_level, op_arms.embedding_bag, op_forms.ours)
    wanted, *others = (form(problem) for form in forms)
    for other in (*others, op_forms.fused(problem), op_forms.pytorch(problem)):
        torch.testing.assert_close(other, wanted, rtol=1e-4, atol=1e-4)
    wanted, *others = (op_forms.gradient_arm(problem, form)() for form in forms)
    for other in (*others, op_forms.pytorch_gradient_arm(problem)()[1]):
        for actual, expected in zip(other, wanted):
            torch.testing.assert_close(actual, expected, rtol=1e-3, atol=1e-3)


def test_a_form_that_computes_something_else_is_not_timed(problem):
    import op_arms
    import op_forms

    with pytest.raises(RuntimeError, match="wrong is off by"):
        op_forms.forward_arms(problem, wrong=lambda p: op_arms.official(p) + 1)


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_the_loop_that_only_gathers_reads_the_same_rows(problem):
    import op_arms
    import op_limits

    torch.testing.assert_close(
        op_limits.gatherer(problem, 2)(), op_arms.official(problem), rtol=1e-4, atol=1e-4
    )
    # 2 images, 8 heads, 16 points of 4 rows of 32 floats, for each query.
    queries = problem.locations.shape[1]
    assert op_limits.row_bytes(problem) == queries * 2 * 8 * 16 * 4 * 32 * 4
    assert op_limits.cache_reader(2, kilobytes=1, times=3)() == 2 * 3 * (256 / 128) * 8


def test_arms_take_turns(benchmarking):
    order = []
    arms = {name: lambda name=name: order.append(name) for name in "ab"}
    seconds = benchmarking.take_turns(arms, 5)
    assert "".join(order) == "ab" * 6
    assert set(seconds) == set("ab") and all(second >= 0 for second in seconds.values())
    with pytest.raises(ValueError, match="at least 5 runs, got 4"):
        benchmarking.take_turns(arms, 4)


@pytest.mark.parametrize(
    "value, better, goal, reached",
    [
        (3.0, "higher", 3, True),
        (2.9, "higher", 3, False),
        (3.0, "lower", 3, True),
        (3.1, "lower", 3, False),
        (3.0, "higher", None, None),
        (None, "higher", 3, None),
    ],
)
def test_goals(value, better, goal, reached, benchmarking):
    figure = benchmarking.Figure("name", value, better, goal, "times", {})
    assert figure.reached is reached
    line = benchmarking.table([figure])
    assert ("MISSED" in line) == (reached is False)
    assert ("not measured" in line) == (value is None)


def test_file_of_figures(benchmarking, tmp_path):
    figure = benchmarking.ratio("a to b", {"a": 0.5, "b": 0.25}, "a", "b", goal=3)
    path = tmp_path / "new" / "figures.json"
    benchmarking.write_json(path, [figure], {"threads": 2})
    content = json.loads(path.read_text())
    assert content["figures"] == [
        {
            "name": "a to b",
            "value": 2.0,
            "better": "higher",
            "goal": 3,
            "unit": "times",
            "arms": {"a ms": 500.0, "b ms": 250.0},
        }
    ]
    assert content["setting"] == {"threads": 2}
    lines = benchmarking.markdown(content).splitlines()
    assert lines[0] == "threads 2"
    assert lines[-1] == "| a to b | **2.00** | at least 3 | a ms 500, b ms 250 |"


MEASURE_64_MEGABYTES = """
import torch
from benchmarking import peak_bytes
size = 64 * 2**20
def work():
    first = torch.ones(size, dtype=torch.uint8)
    del first
    return torch.ones(size, dtype=torch.uint8)
print(peak_bytes(work) / size)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_peak_of_memory(benchmarking, repository, tmp_path):
    script = tmp_path / "peak.py"
    script.write_text(MEASURE_64_MEGABYTES)
    # In a process of its own, which has no freed memory to use again.
    peak = benchmarking.in_child(str(script), [], {"PYTHONPATH": str(repository / "tools")})
    assert 0.9 < peak < 1.3


def test_a_child_that_fails_is_not_overlooked(benchmarking, tmp_path):
    script = tmp_path / "fails.py"
    script.write_text("raise SystemExit('no such thing')")
    with pytest.raises(RuntimeError, match="no such thing"):
        benchmarking.in_child(str(script), [], {})
    script.write_text("import os\nprint('a word')\nprint(os.environ['NUMBER'])")
    assert benchmarking.in_child(str(script), [], {"NUMBER": "[1]"}) == [1]


def test_picture(tmp_path):
    import op_plot
    from PIL import Image

    arms = {"ours": [(1, 10.0), (2, 5.0)], "official grid_sample": [(1, 300.0), (2, 200.0)]}
    path = tmp_path / "curves.png"
    op_plot.draw(path, {"queries": arms, "threads": arms}, "conditions")
    assert Image.open(path).width > 1000


@pytest.mark.parametrize(
    "arguments, message", [(["--runs", "3"], "at least 5"), (["--threads", "0"], "at least 1")]
)
def test_settings_that_cannot_be_meant(arguments, message, repository):
    done = subprocess.run(
        [sys.executable, str(repository / "tools" / "benchmark_op.py"), *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2 and message in done.stderr
