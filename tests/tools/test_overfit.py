"""The subset that tools/overfit.py trains on."""

import importlib.util
import json

import pytest


@pytest.fixture(scope="module")
def overfit(repository):
    spec = importlib.util.spec_from_file_location("overfit", repository / "tools" / "overfit.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def annotation(number, image, crowd=0):
    return {"id": number, "image_id": image, "iscrowd": crowd}


def test_first_images_with_objects_and_all_their_annotations(overfit):
    content = {
        "categories": [{"id": 3, "name": "cat"}],
        "images": [{"id": i} for i in (5, 6, 7, 8)],
        "annotations": [
            annotation(1, 6, crowd=1),
            annotation(2, 7),
            annotation(3, 7, crowd=1),
            annotation(4, 8),
            annotation(5, 5),
        ],
    }
    small = overfit.subset(content, 2)
    assert [image["id"] for image in small["images"]] == [5, 7]
    assert [a["id"] for a in small["annotations"]] == [2, 3, 5]
    assert small["categories"] == content["categories"]
    assert len(content["images"]) == 4


@pytest.fixture
def sound(tmp_path):
    content = {
        "categories": [{"id": 3, "name": "cat"}],
        "images": [{"id": 5, "file_name": "a.jpg", "width": 9, "height": 9}],
        "annotations": [{"id": 1, "image_id": 5, "category_id": 3, "bbox": [1, 1, 5, 5]}],
    }
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(content))
    return path


def test_an_output_below_a_file_is_a_clear_error(overfit, sound, tmp_path, capsys):
    arguments = ["--json", str(sound), "--images", str(tmp_path), "--output", f"{sound}/x"]
    assert overfit.main(arguments) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ") and f"{sound}/x" in message and "--output" in message


def test_a_bad_json_is_a_clear_error(overfit, tmp_path, capsys):
    arguments = ["--json", str(tmp_path), "--images", str(tmp_path), "--output", str(tmp_path)]
    assert overfit.main(arguments) == 2
    assert "this is a folder" in capsys.readouterr().err


def test_at_least_one_image(overfit, sound, tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        overfit.main(["--json", str(sound), "--images", str(tmp_path), "--num-images", "0"])
    assert caught.value.code == 2
    assert "--num-images is 0" in capsys.readouterr().err


@pytest.mark.parametrize("masks", [False, True])
def test_masks_take_the_config_with_masks(overfit, sound, tmp_path, monkeypatch, masks):
    commands = []

    class Done:
        returncode = 0

    def note(command, **options):
        commands.append(command)
        return Done()

    monkeypatch.setattr(overfit.subprocess, "run", note)
    (tmp_path / "a.jpg").touch()
    arguments = ["--json", str(sound), "--images", str(tmp_path), "--output", str(tmp_path / "x")]
    assert overfit.main([*arguments, *["--masks"] * masks, "train.max_iter=3"]) == 0
    (command,) = commands
    config = command[command.index("--config-file") + 1]
    assert config.endswith("overfit_mask.py" if masks else "/overfit.py")
    assert command[-1] == "train.max_iter=3"
    assert f"dataset.train_json={tmp_path / 'x' / 'subset.json'}" in command
