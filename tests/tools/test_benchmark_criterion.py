"""The benchmark of matching and losses: its arms compute the same, figures say what was counted."""

from __future__ import annotations

import json
import sys

import pytest
import torch


@pytest.fixture(scope="module")
def tool(repository):
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(repository / "tools"))
        import benchmark_criterion

        yield benchmark_criterion
        for name in ("benchmark_criterion", "criterion_loops", "calls"):
            sys.modules.pop(name, None)


def test_problem_is_the_stated_one(tool):
    outputs, targets = tool.problem(7)
    states, proposals = outputs["primary"].states, outputs["primary"].proposals
    assert targets.counts == (7, 7) and proposals.logits_BSK.shape == (2, 17821, 80)
    assert states.taps.keys() == {"output", "internal"}
    for layers in states.taps.values():
        assert len(layers) == 6
        assert all(layer.logits_BNK.shape == (2, 300, 80) for layer in layers)
    teachers = tool.supervisions(proposals=True)
    assert set(teachers.keys()) == {"one_to_one", "mixed", "proposals"}
    assert (tool.GOALS, tool.CALLS) == ({7: 4.0, 30: 2.5}, 600)


def test_arms_that_differ_are_not_timed(tool):
    found = {"a": torch.tensor(1.0)}
    tool.compare(found, dict(found))
    with pytest.raises(RuntimeError, match="a is 1.0, the loops have 1.1"):
        tool.compare(found, {"a": torch.tensor(1.1)})
    with pytest.raises(RuntimeError, match=r"other losses: \['b'\]"):
        tool.compare(found, {**found, "b": torch.tensor(1.0)})


def test_settings_that_cannot_be_meant(tool, capsys):
    for arguments, message in ((["--runs", "3"], "at least 5"), (["--plot", "x.png"], "nothing")):
        with pytest.raises(SystemExit):
            tool.main(arguments)
        assert message in capsys.readouterr().err


def test_figures(tool, tmp_path, monkeypatch, capsys):
    sizes = {"TOKENS": 400, "QUERIES": 40, "LAYERS": 2}
    options = tool.problem.__kwdefaults__
    monkeypatch.setattr(
        tool.problem, "__kwdefaults__", options | {k.lower(): v for k, v in sizes.items()}
    )
    file = tmp_path / "criterion.json"
    threads = torch.get_num_threads()
    code = tool.main(["--quick", "--runs", "5", "--threads", "1", "--json", str(file)])
    assert torch.get_num_threads() == threads == 1
    figures = json.loads(file.read_text())["figures"]
    without, with_proposals = "7 objects, without proposals", "7 objects, with proposals"
    assert [figure["name"] for figure in figures] == [
        *(f"{what}{kind}: loops / ours" for what in (without, with_proposals)
          for kind in ("", ", with gradients")),
        f"{with_proposals}: waits of the host",
        f"{with_proposals}: calls of operators",
    ]  # fmt: skip
    for figure in figures[:4]:
        arms = figure["arms"]
        assert figure["value"] == pytest.approx(arms["loops ms"] / arms["ours ms"])
    waits, calls = figures[4:]
    assert waits["value"] == waits["arms"]["ours"] == 1 < waits["arms"]["loops"]
    assert calls["value"] == calls["arms"]["ours"] < 600 < calls["arms"]["loops"]
    assert code in (0, 1) and "calls of operators" in capsys.readouterr().out
