"""The benchmark of a training step measures what it says."""

from __future__ import annotations

import importlib.util
import json
import sys

import pytest
import torch
from detectron2.config import instantiate
from small_models import build, item


@pytest.fixture(scope="module")
def tool(repository):
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(repository / "tools"))
        path = repository / "tools" / "benchmark_step.py"
        spec = importlib.util.spec_from_file_location("benchmark_step", path)
        module = importlib.util.module_from_spec(spec)
        patch.setitem(sys.modules, "benchmark_step", module)
        spec.loader.exec_module(module)
        yield module


def test_batch_is_the_stated_one(tool):
    batch = tool.batch_of(5, (256, 320))
    assert len(batch) == 2
    for image in batch:
        objects = image["instances"]
        assert image["image"].shape == (3, 256, 320) and len(objects) == 7
        boxes, masks = objects.gt_boxes.tensor, objects.gt_masks
        assert (boxes[:, :2] >= 0).all() and (boxes[:, 2:] <= boxes.new_tensor([320, 256])).all()
        # Ellipses fill their boxes up to the pixels' size.
        assert (masks.get_bounding_boxes().tensor - boxes).abs().max() < 2


def test_comparisons_name_models_of_one_size(tool):
    """300 queries, and the backbone of the base."""
    for comparison in tool.COMPARISONS.values():
        assert comparison.base in comparison.models
        nodes = [
            tool.load_config(tool.CONFIGS / f"{model.file}.py", model.overrides).model
            for model in comparison.models.values()
        ]
        assert {node.queries.num_queries for node in nodes} == {300}
        assert {node.backbone.stages.depth for node in nodes} == {50}
    assert tool.QUICK.keys() == tool.COMPARISONS.keys()


@pytest.mark.slow
def test_figures(tool, tmp_path, capsys):
    file, picture = tmp_path / "step.json", tmp_path / "step.png"
    arguments = ["--quick", "--runs", "5", "--threads", "1"]
    code = tool.main([*arguments, "--json", str(file), "--plot", str(picture)])
    figures = json.loads(file.read_text())["figures"]
    assert [figure["name"] for figure in figures] == [
        "ours / official form: time of a step",
        "ours / official form: peak memory",
        "checkpointed / ours: time of a step",
        "checkpointed / ours: peak memory",
        "masks / boxes: time of a step",
        "masks / boxes: peak memory",
        "MS-DETR / one-to-one: time of a step",
        "MS-DETR / one-to-one: peak memory",
        "Co K=1 / one-to-one: time of a step",
        "Co K=1 / one-to-one: peak memory",
        "MS / one-to-one: time of a step",
        "MS / one-to-one: peak memory",
        "MS + Co K=1 / one-to-one: time of a step",
        "MS + Co K=1 / one-to-one: peak memory",
        "MS + Co K=1 / MS and Co K=1: time of a step beyond one-to-one",
        "MS + Co K=1 / MS and Co K=1: peak memory beyond one-to-one",
        "decoder, 11 groups of 30: one pass / 11 passes",
        "self-attention, 11 groups of 30: one masked attention / group by group",
    ]
    for figure, unit in zip(figures[:14], ("ms", "MiB") * 7):
        ours, base = figure["name"].partition(":")[0].split(" / ")
        arms = figure["arms"]
        assert figure["value"] == pytest.approx(arms[f"{ours} {unit}"] / arms[f"{base} {unit}"])
        assert all(value > 0 for value in arms.values())
    assert code in (0, 1) and "peak memory" in capsys.readouterr().out
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_memory_is_counted_exactly(tool):
    """A second count gives the same; what is trained is there four times."""
    without = tuple(f"~model.supervisions.{name}" for name in ("atss", "faster_rcnn", "adapter"))
    models = {
        "with": tool.Model("models/ms_co_small"),
        "without": tool.Model("models/ms_co_small", overrides=without),
    }
    counted, again = (
        {name: tool.peak_of(model, (64, 96), "cpu") for name, model in models.items()}
        for _ in range(2)
    )
    assert again == pytest.approx(counted, rel=1e-3)
    node = tool.load_config(tool.CONFIGS / "models/ms_co_small.py").model
    supervisions = instantiate(node).supervisions
    parts = [supervisions.adapter, supervisions["atss"], supervisions["faster_rcnn"]]
    trained = sum(p.numel() for part in parts for p in part.parameters())
    # Weights, gradients and two averages, of four bytes each; activations come on top.
    assert counted["with"] - counted["without"] > 4 * 4 * trained / tool.MIB


def test_a_union_is_compared_with_the_sum_of_its_parts(tool):
    """30 more than the base against 5 and 20 more."""
    sizes = {"base": 100.0, "one": 105.0, "other": 120.0, "both": 130.0}
    figure = tool.union_figure("peak memory", "MiB", sizes, "base", "both", ["one", "other"])
    assert figure.name == "both / one and other: peak memory beyond base"
    assert figure.value == pytest.approx(30 / 25) and figure.reached is False
    assert figure.arms == {f"{name} MiB": sizes[name] for name in ("both", "one", "other", "base")}
    met = tool.union_figure("x", "ms", sizes | {"both": 126.0}, "base", "both", ["one", "other"])
    assert met.value == pytest.approx(1.04) and met.reached is True
    nothing = tool.union_figure(
        "x", "ms", sizes | {"other": 95.0}, "base", "both", ["one", "other"]
    )
    assert nothing.value is None and nothing.reached is None


def test_collaborative_models_are_those_of_the_papers_table(tool):
    """Table 7, from one head to six, and what is compared with the sum of its parts."""
    comparison = tool.COMPARISONS["collaborative"]
    entries = {
        name: set(tool.load_config(tool.CONFIGS / f"{model.file}.py").model.supervisions)
        for name, model in comparison.models.items()
    }
    base = entries["one-to-one"]
    extra = {name: names - base - {"adapter"} for name, names in entries.items()}
    assert extra["Co K=1"] == {"atss"} and extra["Co K=2"] == {"atss", "faster_rcnn"}
    assert extra["Co K=3"] == {"atss", "faster_rcnn", "paa"} and len(extra["Co K=6"]) == 6
    for union, parts in comparison.unions.items():
        assert extra[union] == set().union(*(extra[part] for part in parts))
    assert set(comparison.unions) == {"MS + Co K=1", "MS + Co K=2"}


def test_goals(tool):
    masks = tool.COMPARISONS["masks"].models["masks"]
    assert (masks.time, masks.memory) == (1.35, 1.30)
    mixed = tool.COMPARISONS["methods"].models["MS-DETR"]
    assert (mixed.time, mixed.memory) == (1.05, 1.02)
    assert tool.COMPARISONS["methods"].models["MS-DETR without feed-forward"].memory == 1.01
    ours = tool.COMPARISONS["official"].models["ours"]
    assert (ours.time, ours.memory) == (pytest.approx(1 / 1.5), 0.80)


def test_official_form_computes_the_same(tool):
    """Losses and gradients, without dropout."""
    from step_official import official_form  # found once the tool's folder is

    models = {"ours": build("models/ms_detr.py"), "official": build("models/ms_detr.py")}
    official_form(models["official"])
    batch, losses, gradients = [item(64, 96, 2), item(64, 64, 1, seed=1)], {}, {}
    for name, model in models.items():
        torch.manual_seed(0)
        for key, parameter in model.named_parameters():
            if key.endswith("sampling_offsets.bias"):
                # At first all points lie on centres of pixels, where there are two derivatives.
                parameter.data += 0.1 + 0.3 * torch.rand_like(parameter)
        losses[name] = model.double().train()(batch)
        sum(losses[name].values()).backward()
        gradients[name] = {key: p.grad for key, p in model.named_parameters()}
    for found in (losses, gradients):
        for name, value in found["ours"].items():
            if value is None:
                assert found["official"][name] is None
            else:
                torch.testing.assert_close(found["official"][name], value, rtol=1e-8, atol=1e-10)
