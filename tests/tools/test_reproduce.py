"""The reproduction ledger: it agrees with the configs, and its commands can be run."""

from __future__ import annotations

import importlib.util
import re
import shlex
import shutil
import sys

import pytest
import torch
from detectron2.config import instantiate
from small_models import item, shrink

from ms_detr.config import load_config
from ms_detr.convert import FAMILIES


@pytest.fixture(scope="module")
def tool(repository):
    spec = importlib.util.spec_from_file_location("reproduce", repository / "tools/reproduce.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["reproduce"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def text(tool) -> str:
    return tool.LEDGER.read_text()


@pytest.fixture(scope="module")
def ledger(tool, text):
    return tool.read_ledger(text)


def test_the_ledger_agrees_with_the_configs(tool, capsys):
    assert tool.main(["--check"]) == 0, capsys.readouterr().out


def test_published_numbers(ledger):
    """Typed a second time, from the sources: a slip in the page does not go unnoticed."""
    published = {row.name: row.ap for row in ledger.rows.values() if row.ap}
    assert published == {
        "ms_detr_r50_300q_12ep": "47.6",
        "ms_detr_pp_r50_300q_12ep": "48.8",
        "ms_detr_pp_r50_900q_12ep": "50.0",
        "ms_detr_pp_r50_900q_24ep": "50.9",
        "ms_detr_r50_300q_50ep": "49.0",
        "deformable_detr_r50_300q_12ep": "43.7",
        "deformable_detr_r50_300q_24ep": "46.4",
        "deformable_detr_r50_300q_36ep": "46.8",
        "deformable_detr_pp_r50_300q_12ep": "47.0",
        "deformable_detr_pp_r50_300q_36ep": "49.0",
        "deformable_detr_r50_300q_50ep": "46.9",
        "deformable_detr_one_stage_r50_300q_50ep": "46.2",
        "deformable_detr_one_stage_fixed_r50_300q_50ep": "44.5",
        "conditional_detr_r50_300q_50ep": "41.0",
        "conditional_detr_r50_300q_12ep": "32.6",
        "dab_detr_r50_300q_50ep": "42.2",
        "dab_detr_r50_300q_12ep": "35.2",
        "dab_deformable_detr_r50_300q_50ep": "48.7",
        "dab_deformable_detr_r50_300q_12ep": "44.2",
        "h_deformable_detr_r50_300q_12ep": "45.9",
        "h_deformable_detr_r50_300q_24ep": "47.6",
        "h_deformable_detr_r50_300q_36ep": "48.0",
        "h_deformable_detr_pp_r50_300q_12ep": "48.7",
        "h_deformable_detr_pp_r50_300q_24ep": "49.9",
        "h_deformable_detr_pp_r50_300q_36ep": "50.0",
        "group_conditional_detr_r50_300q_12ep": "37.6",
        "group_dab_detr_r50_300q_12ep": "39.1",
        "group_dab_deformable_detr_r50_300q_12ep": "45.7",
        "dn_dab_detr_r50_300q_12ep": "38.6",
        "dn_dab_deformable_detr_r50_300q_12ep": "43.4",
        "dn_dab_deformable_detr_r50_300q_50ep": "48.6",
        "group_dino_4scale_r50_900q_12ep": "50.1",
        "dino_4scale_r50_900q_12ep": "49.0",
        "dino_4scale_r50_900q_24ep": "50.4",
        "dino_4scale_r50_900q_36ep": "50.9",
        "dino_5scale_r50_900q_12ep": "49.4",
        "dino_5scale_r50_900q_24ep": "51.3",
        "dino_5scale_r50_900q_36ep": "51.2",
        # Co-DETR: Table 2 and its baselines, 8, 3 and 7, 2 on one map, 3 and 4 on DINO.
        "deformable_detr_one_stage_fixed_r50_300q_12ep": "37.1",
        "deformable_detr_one_stage_fixed_r50_300q_36ep": "43.3",
        "conditional_detr_r50_300q_36ep": "39.4",
        "dab_detr_r50_300q_36ep": "41.2",
        "co_deformable_detr_atss_r50_300q_12ep": "42.3",
        "co_deformable_detr_atss_r50_300q_36ep": "46.8",
        "co_deformable_detr_atss_rcnn_r50_300q_12ep": "42.9",
        "co_deformable_detr_atss_rcnn_r50_300q_36ep": "46.5",
        "co_deformable_detr_retinanet_r50_300q_36ep": "46.1",
        "co_deformable_detr_rcnn_r50_300q_36ep": "46.3",
        "co_deformable_detr_fcos_r50_300q_36ep": "46.5",
        "co_deformable_detr_paa_r50_300q_36ep": "46.5",
        "co_deformable_detr_gfl_r50_300q_36ep": "46.5",
        "co_deformable_detr_pp_atss_r50_300q_12ep": "48.7",
        "co_deformable_detr_pp_atss_rcnn_r50_300q_12ep": "49.5",
        "co_deformable_detr_pp_atss_paa_r50_300q_12ep": "49.0",
        "co_deformable_detr_pp_atss_rcnn_paa_r50_300q_12ep": "49.5",
        "co_deformable_detr_pp_six_r50_300q_12ep": "48.9",
        "co_deformable_detr_pp_atss_twice_r50_300q_12ep": "49.2",
        "co_deformable_detr_pp_atss_six_times_r50_300q_12ep": "49.5",
        "co_conditional_detr_atss_r50_300q_36ep": "41.5",
        "co_conditional_detr_atss_rcnn_r50_300q_36ep": "41.8",
        "co_dab_detr_atss_r50_300q_36ep": "43.1",
        "co_dab_detr_atss_rcnn_r50_300q_36ep": "43.5",
        "co_dino_5scale_atss_r50_900q_12ep": "51.0",
        "co_dino_5scale_atss_rcnn_r50_900q_12ep": "51.2",
        "co_dino_5scale_quality_atss_rcnn_r50_900q_12ep": "52.1",
        "co_dino_5scale_quality_atss_rcnn_lsj_r50_900q_12ep": "52.1",
        "co_dino_5scale_quality_atss_rcnn_lsj_r50_900q_36ep": "54.8",
    }
    assert {row.checkpoint[0] for row in ledger.rows.values() if row.checkpoint} == set(FAMILIES)


def test_every_row_has_commands_of_files_that_exist(tool, ledger, repository):
    for row in ledger.rows.values():
        steps = tool.commands(ledger, row)
        assert ("checkpoint" in steps) == (row.checkpoint is not None)
        for line in (line for lines in steps.values() for line in lines):
            words = shlex.split(line)
            if words[0] == "python":
                assert (repository / words[1]).is_file()
                assert (repository / words[words.index("--config-file") + 1]).is_file()
        assert row.name in tool.describe(ledger, row)


@pytest.mark.parametrize(
    "name", ["deformable_detr_pp_r50_300q_12ep", "deformable_detr_r50_300q_50ep"]
)
def test_overrides_train_a_step(tool, ledger, repository, name):
    row = ledger.rows[name]
    plain = load_config(repository / f"configs/{row.config}.py")
    cfg = load_config(repository / f"configs/{row.config}.py", ledger.overrides(row))
    losses = []
    for node in (plain.model, cfg.model):
        torch.manual_seed(0)
        node = shrink(node)
        node.encoder.dropout = 0.0
        losses.append(instantiate(node)([item(64, 80, 3)]))
    assert all(torch.isfinite(loss) for loss in losses[1].values())
    changed = {key.split("/")[0] for key in losses[0] if losses[0][key] != losses[1][key]}
    assert changed == {"proposals"}  # paired by other boxes, nothing else


def test_batch_of_the_published_run(tool, ledger, repository):
    row = ledger.rows["deformable_detr_one_stage_r50_300q_50ep"]
    cfg = load_config(repository / f"configs/{row.config}.py", ledger.overrides(row))
    images = cfg.dataloader.train.total_batch_size * cfg.train.max_iter
    assert images == pytest.approx(50 * 118287, rel=1e-3)
    assert cfg.model.encoder.feedforward_dim == 1024


def test_evaluation_leaves_training_out(tool, ledger):
    evaluate = tool.commands(ledger, ledger.rows["deformable_detr_r50_300q_50ep"])["evaluate"][0]
    assert "model.encoder.feedforward_dim=1024" in evaluate
    assert "supervisions" not in evaluate and "batch" not in evaluate


def test_command_line(tool, capsys):
    assert tool.main([]) == 0
    assert "ms_detr_r50_300q_12ep" in capsys.readouterr().out
    assert tool.main(["configs/ms_detr/ms_detr_r50_300q_12ep.py", "--num-gpus", "4"]) == 0
    out = capsys.readouterr().out
    assert "--num-gpus 4" in out and "47.6" in out and "--from ms-detr" in out
    assert tool.main(["ms_detr_r50_300q_13ep"]) == 2
    assert "did you mean ms_detr_r50_300q_12ep?" in capsys.readouterr().err
    assert tool.main(["ms_detr_r50_300q_12ep", "--num-gpus", "3"]) == 2
    assert "[1, 2, 4, 8, 16]" in capsys.readouterr().err


def test_only_close_names_are_suggested(tool, capsys):
    for typed, hint in (
        ("nonsense", "'nonsense' in docs/reproduce.md; without a name all are listed"),
        ("zebra.py", "'zebra.py' in docs/reproduce.md; without a name all are listed"),
        ("ms_detr_r50_300q_12epoch", "did you mean ms_detr_r50_300q_12ep?"),
        ("ms_detr_pp_r50_90q_24ep", "did you mean ms_detr_pp_r50_900q_24ep?"),
    ):
        assert tool.main([typed]) == 2
        assert capsys.readouterr().err.rstrip().endswith(hint)


@pytest.mark.parametrize(
    "words, message",
    [
        (["--num-gpus", "3"], "--num-gpus 3 is for the commands of a row"),
        (["--check", "--num-gpus", "8"], "--num-gpus 8 is for the commands of a row"),
        (["--check", "ms_detr_r50_300q_12ep"], "--check compares all rows: leave out 'ms_detr"),
    ],
)
def test_nothing_is_ignored(tool, capsys, words, message):
    with pytest.raises(SystemExit) as ended:
        tool.main(words)
    output = capsys.readouterr()
    assert ended.value.code == 2 and message in output.err and not output.out


def test_number_of_gpus(tool, capsys):
    for number, words in ((1, ["--num-gpus", "1"]), (2, ["--num-gpus", "2"]), (8, [])):
        assert tool.main(["ms_detr_r50_300q_12ep", *words]) == 0
        out = capsys.readouterr().out
        assert f"train (GPUs: {number};" in out and f"--num-gpus {number}\n" in out
    assert tool.main(["ms_detr_r50_300q_12ep", "--num-gpus", "0"]) == 2


@pytest.mark.parametrize(
    "old, new, message",
    [
        ("| 47.6 |", "| about 47 |", "write it like 47.6"),
        ("| 300 | 12 | 47.6", "| many | 12 | 47.6", "not a whole number"),
        ("cut, labels, rank |", "cut, colour, rank |", "'colour' is not among"),
        ("| MS-DETR |", "| hearsay |", "'hearsay' is not among"),
        ("[ms-detr][drive]", "[ms-detr][nowhere]", "no address"),
        ("ms_detr/ms_detr_pp_r50_300q_12ep", "ms_detr/ms_detr_r50_300q_12ep", "two rows"),
        ("## Sources", "## Origins", "no section 'Sources'"),
        ("| 43.7 | H-DETR |", "| 43.7 |", "7 cells under 8 headings"),
    ],
)
def test_unreadable_ledger(tool, text, old, new, message):
    assert old in text
    with pytest.raises(tool.LedgerError, match=re.escape(message)):
        tool.read_ledger(text.replace(old, new, 1))


def test_every_disagreement_is_found(tool, text, repository, tmp_path):
    configs = tmp_path / "configs"
    shutil.copytree(repository / "configs", configs)
    edits = {
        "| 47.6 |": "| 47.7 |",
        "| 900 | 24 |": "| 300 | 36 |",
        "_a_r50_300q_12ep`": "_z_r50_300q_12ep`",
        "feedforward_dim=1024": "feedfroward_dim=1024",
        "- **rank**": "- **more**: text\n- **rank**",
    }
    for old, new in edits.items():
        assert old in text
        text = text.replace(old, new, 1)
    path = configs / "ms_detr/ms_detr_pp_r50_300q_12ep.py"
    path.write_text(path.read_text().replace("output/ms_detr_pp", "output/another"))
    wrong = tool.check(tool.read_ledger(text), configs)
    for message in (
        "ms_detr_r50_300q_12ep: published AP 47.7, but the config's text says ['47.6']",
        "ms_detr_pp_r50_900q_24ep: 300 queries, but 900 in the config",
        "ms_detr_pp_r50_900q_24ep: 36 epochs, but 177432 iterations in the config",
        "ms_detr_z_r50_300q_12ep: there is no configs/variants/ms_detr_z_r50_300q_12ep.py",
        "configs/variants/ms_detr_a_r50_300q_12ep.py has no row in the ledger",
        "unknown config key model.encoder.feedfroward_dim",
        "'more' is explained, but no row uses it",
        "ms_detr_pp_r50_300q_12ep: the config writes to output/another_r50_300q_12ep",
    ):
        assert sum(message in line for line in wrong) >= 1, (message, wrong)
    assert len(wrong) == 21  # fourteen rows have the misspelt override
