"""The comparisons of the demo train what they say."""

from __future__ import annotations

import importlib.util
import json

import pytest
from detectron2.config import instantiate

from ms_detr.config import load_config


@pytest.fixture(scope="module")
def demo(repository):
    spec = importlib.util.spec_from_file_location("demo", repository / "tools" / "demo.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


ALWAYS = {"one_to_one", "proposals"}


def test_arms_leave_out_what_their_names_say(demo):
    arms = {
        name: load_config(demo.COMPARE_CO.config, edits)
        for name, edits in demo.COMPARE_CO.arms.items()
    }
    found = {name: set(instantiate(cfg.model).supervisions) - ALWAYS for name, cfg in arms.items()}
    assert found == {
        "one-to-one alone": set(),
        "Co, K = 1 (ATSS)": {"atss", "adapter"},
        "Co, K = 2 (ATSS, Faster R-CNN)": {"atss", "faster_rcnn", "adapter"},
        "MS": {"mixed"},
        "MS + Co, K = 2": {"mixed", "atss", "faster_rcnn", "adapter"},
    }


def test_both_comparisons_are_of_the_same_model(demo):
    """But for the heads: numbers of the one can be set beside those of the other."""
    plain = load_config(demo.COMPARE.config)
    co = load_config(demo.COMPARE_CO.config, demo.COMPARE_CO.arms["MS"])
    co.train.output_dir = plain.train.output_dir
    assert co == plain


def test_table(demo):
    rows = {"one": [{"AP": 10.0, "AP50": 20.0}, {"AP": 12.0, "AP50": 24.0}]}
    header, line = demo.compared(rows).splitlines()
    assert header.split() == ["AP", "AP50", "AP", "of", "each", "seed"]
    assert line.split() == ["one", "11.0", "+-", "1.4", "22.0", "+-", "2.8", "10.0", "12.0"]


@pytest.mark.parametrize("words", [["--jobs", "0"], ["--seeds", "0"]])
def test_refused_numbers(demo, capsys, tmp_path, words):
    with pytest.raises(SystemExit):
        demo.main(["--compare-co", "--output", str(tmp_path), *words])
    assert f"{words[0]} must be at least 1, got 0" in capsys.readouterr().err


@pytest.mark.slow
def test_two_runs_at_once(demo, capsys, tmp_path):
    arguments = ["--compare-co", "--seeds", "1", "--jobs", "2", "--output", str(tmp_path)]
    assert demo.main([*arguments, "train.max_iter=2"]) == 0
    rows = json.loads((tmp_path / "comparison.json").read_text())
    assert list(rows) == list(demo.COMPARE_CO.arms)
    assert all(len(found) == 1 and "AP50" in found[0] for found in rows.values())
    assert "MS + Co, K = 2" in capsys.readouterr().out


@pytest.mark.slow
def test_a_failure_ends_the_comparison(demo, tmp_path):
    arguments = ["--compare-co", "--seeds", "1", "--jobs", "2", "--output", str(tmp_path)]
    with pytest.raises(SystemExit):
        demo.main([*arguments, "train.no_such_key=1"])
    assert not (tmp_path / "comparison.json").exists()
