"""Which weights tools/visualize.py draws, and what it refuses."""

import importlib.util

import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import instantiate
from PIL import Image

from ms_detr.config import load_config
from ms_detr.data import generate_shapes


@pytest.fixture(scope="module")
def visualize(repository):
    path = repository / "tools" / "visualize.py"
    spec = importlib.util.spec_from_file_location("visualize", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def config_file(repository):
    return repository / "configs" / "demo" / "shapes.py"


@pytest.fixture
def call(visualize, config_file, tmp_path):
    """Runs the tool on a run without a checkpoint."""

    def run(*rest):
        head = ["--config-file", str(config_file), "--output", str(tmp_path / "pictures")]
        return visualize.main([*head, *rest, f"train.output_dir={tmp_path / 'run'}"])

    return run


def test_a_model_without_weights_is_not_drawn(call, tmp_path, capsys):
    assert call() == 2
    message = capsys.readouterr().err
    assert f"{tmp_path / 'run'} has no last checkpoint" in message
    assert "train.init_checkpoint=FILE" in message


def test_a_checkpoint_that_is_not_there(call, tmp_path, capsys):
    assert call(f"train.init_checkpoint={tmp_path}/nowhere.pth") == 2
    assert "nowhere.pth does not exist" in capsys.readouterr().err


@pytest.mark.parametrize("count", ["0", "-3"])
def test_at_least_one_image(call, count, capsys):
    with pytest.raises(SystemExit) as caught:
        call("--num-images", count)
    assert caught.value.code == 2
    assert f"--num-images is {count}" in capsys.readouterr().err


def test_an_overridden_checkpoint_wins_over_the_last_one(visualize, config_file, tmp_path):
    for name in ("model_last.pth", "other.pth"):
        (tmp_path / name).touch()
    (tmp_path / "last_checkpoint").write_text("model_last.pth")
    overrides = [f"train.output_dir={tmp_path}"]
    chosen = visualize.find_weights(load_config(config_file, overrides), overrides)
    assert chosen == str(tmp_path / "model_last.pth")
    overrides.append(f"train.init_checkpoint={tmp_path / 'other.pth'}")
    chosen = visualize.find_weights(load_config(config_file, overrides), overrides)
    assert chosen == str(tmp_path / "other.pth")


def test_given_weights_are_loaded_and_drawn(visualize, call, config_file, tmp_path, capsys):
    generate_shapes(tmp_path / "data", num_train=1, num_val=2)
    root = f"dataset.root={tmp_path / 'data'}"
    config = load_config(config_file, [root, "train.device=cpu"])
    model = instantiate(config.model)
    state = {name: torch.full_like(value, 0.01) for name, value in model.state_dict().items()}
    path = tmp_path / "weights.pth"
    torch.save({"model": state}, path)
    items, names = visualize.compare(config, str(path), 2)
    assert (len(items), len(names)) == (2, 5)
    DetectionCheckpointer(model).load(str(path))
    mapped = instantiate(config.dataloader.test.mapper)
    record = instantiate(config.dataloader.test.dataset)[0]
    with torch.no_grad():
        (expected,) = model.eval()([mapped(record)])
    assert torch.equal(items[0].predictions.scores, expected["instances"].scores)
    assert call("--num-images", "1", f"train.init_checkpoint={path}", root, "train.device=cpu") == 0
    with Image.open(tmp_path / "pictures" / "detections.png") as picture:
        assert picture.format == "PNG"
    below_a_file = ["--num-images", "1", "--output", f"{path}/x", f"train.init_checkpoint={path}"]
    assert call(*below_a_file, root, "train.device=cpu") == 2
    assert f"{path}/x" in capsys.readouterr().err
