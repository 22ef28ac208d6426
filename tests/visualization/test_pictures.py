"""Pictures of detections and of curves: what is drawn where, and what is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BitMasks, Boxes, BoxMode, Instances, PolygonMasks
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from pycocotools import mask as mask_util

from ms_detr.data import checked_dataset_dicts, register_coco_json
from ms_detr.data.segmentations import rasterise
from ms_detr.visualization import (
    Comparison,
    draw_detections,
    read_metrics,
    save_comparison_grid,
    save_training_curves,
)
from ms_detr.visualization.curves import _prepare, loss_series
from ms_detr.visualization.style import class_colour, ink_on

NAMES = ["cat", "dog"]
GREY = np.full((400, 500, 3), 128, dtype=np.uint8)


@pytest.fixture
def catalog():
    """Forgets, after the test, every data set that the test registered."""
    before = set(DatasetCatalog.list())
    yield
    for name in set(DatasetCatalog.list()) - before:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def predictions(boxes, scores, classes, size=(400, 500)) -> Instances:
    found = Instances(size)
    found.pred_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4))
    found.scores = torch.tensor(scores, dtype=torch.float32, requires_grad=True)
    found.pred_classes = torch.tensor(classes, dtype=torch.long)
    return found


def changed(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    return (before != after).any(-1)


def test_the_border_of_a_box_is_drawn_in_the_colour_of_its_class() -> None:
    found = predictions([[100.0, 150.0, 300.0, 350.0]], [0.9], [1])
    picture = draw_detections(GREY, found, NAMES)
    assert picture.shape == GREY.shape and picture.dtype == np.uint8
    assert (picture[250, 100] == class_colour(1)).all()
    assert (picture[350, 200] == class_colour(1)).all()
    inside = changed(GREY, picture)[160:340, 110:290]
    assert not inside.any()
    assert (GREY == 128).all()  # the input is not touched


def test_low_scores_are_not_drawn() -> None:
    found = predictions([[100.0, 150.0, 300.0, 350.0]], [0.4], [1])
    assert not changed(GREY, draw_detections(GREY, found, NAMES)).any()
    assert changed(GREY, draw_detections(GREY, found, NAMES, score_threshold=0.3)).any()


def test_no_detection_leaves_the_image_as_it_is() -> None:
    for nothing in (predictions([], [], []), []):
        assert not changed(GREY, draw_detections(GREY, nothing, NAMES)).any()


def test_annotations_and_instances_draw_the_same_box() -> None:
    truth = Instances((400, 500))
    truth.gt_boxes = Boxes(torch.tensor([[100.0, 150.0, 300.0, 350.0]]))
    truth.gt_classes = torch.tensor([0])
    annotation = {"bbox": [100, 150, 200, 200], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 0}
    first = draw_detections(GREY, truth, NAMES)
    assert (first == draw_detections(GREY, [annotation], NAMES)).all()
    crowd = draw_detections(GREY, [{**annotation, "iscrowd": 1}], NAMES)
    assert (first != crowd).any()  # its tag says so


def test_small_images_are_enlarged_and_boxes_with_them() -> None:
    small = np.full((64, 128, 3), 128, dtype=np.uint8)
    found = predictions([[32.0, 16.0, 96.0, 48.0]], [0.9], [0], size=(64, 128))
    picture = draw_detections(small, found, NAMES)
    assert picture.shape == (192, 384, 3)
    assert (picture[100, 96] == class_colour(0)).all()
    assert draw_detections(small, found, NAMES, longer_side=100).shape == (50, 100, 3)


@pytest.mark.parametrize(
    "box", [[-50.0, -50.0, 900.0, 900.0], [0.0, 0.0, 1.0, 1.0], [499.0, 399.0, 500.0, 400.0]]
)
def test_boxes_at_and_beyond_the_border(box: list[float]) -> None:
    picture = draw_detections(GREY, predictions([box], [0.9], [0]), NAMES)
    assert changed(GREY, picture).any()


def test_tags_of_two_boxes_at_one_place_do_not_cover_each_other() -> None:
    both = predictions([[100.0, 150.0, 300.0, 350.0]] * 2, [0.9, 0.8], [0, 1])
    one = predictions([[100.0, 150.0, 300.0, 350.0]], [0.9], [0])
    first = draw_detections(GREY, one, NAMES)[:145]
    tag = (first == class_colour(0)).all(-1)
    assert tag.any()
    assert (draw_detections(GREY, both, NAMES)[:145][tag] == class_colour(0)).all()


def test_what_cannot_be_drawn_is_refused() -> None:
    found = predictions([[1.0, 1.0, 9.0, 9.0]], [0.9], [5])
    with pytest.raises(ValueError, match="class indices 5 to 5 for 2 class names"):
        draw_detections(GREY, found, NAMES)
    with pytest.raises(ValueError, match="float32"):
        draw_detections(GREY.astype(np.float32), found, NAMES)
    with pytest.raises(ValueError, match=r"\(400, 500\), but the image has \(100, 100\)"):
        draw_detections(GREY[:100, :100], found, NAMES)
    with pytest.raises(ValueError, match="pred_boxes"):
        draw_detections(GREY, Instances((400, 500)), NAMES)


# masks


def square_mask(x0: int, y0: int, x1: int, y1: int, size=(400, 500)) -> np.ndarray:
    mask = np.zeros(size, dtype=bool)
    mask[y0:y1, x0:x1] = True
    return mask


def with_masks(found: Instances, *masks: np.ndarray) -> Instances:
    found.pred_masks = torch.from_numpy(np.array(masks).reshape(-1, *found.image_size))
    return found


def veiled(picture: np.ndarray, index: int) -> np.ndarray:
    """Pixels of grey under the veil of a class."""
    mixed = np.round(0.55 * 128 + 0.45 * np.array(class_colour(index)))
    return (np.abs(picture - mixed) <= 1).all(-1)


def test_a_mask_is_a_veil_with_an_outline_and_nothing_outside() -> None:
    mask = square_mask(150, 200, 250, 300) & ~square_mask(190, 240, 210, 260)  # with a hole
    found = with_masks(predictions([[100.0, 150.0, 300.0, 350.0]], [0.9], [1]), mask)
    picture = draw_detections(GREY, found, NAMES)
    assert veiled(picture, 1)[205:235, 155:245].all()
    assert (picture[250, 195:205] == 128).all(), "the hole stays as it was"
    assert (picture[299, 170:230] == class_colour(1)).all(), "the outline"
    inside = changed(GREY, picture)[160:340, 110:290]
    assert not inside[:35].any() and not inside[:, :35].any() and not inside[145:].any()
    assert (GREY == 128).all()


def test_masks_of_all_sources_are_the_same() -> None:
    mask = square_mask(150, 200, 250, 300)
    box, polygon = [100.0, 150.0, 300.0, 350.0], [150, 200, 250, 200, 250, 300, 150, 300]
    annotation = {"bbox": box, "bbox_mode": BoxMode.XYXY_ABS, "category_id": 0}
    rle = mask_util.encode(np.asfortranarray(mask.astype(np.uint8)))
    expected = draw_detections(GREY, [{**annotation, "segmentation": [polygon]}], NAMES)
    assert veiled(expected, 0).sum() > 8000
    assert (expected == draw_detections(GREY, [{**annotation, "segmentation": rle}], NAMES)).all()
    for masks in (
        BitMasks(torch.from_numpy(mask[None])),
        PolygonMasks([[np.array(polygon, dtype=float)]]),
    ):
        truth = Instances((400, 500))
        truth.gt_boxes, truth.gt_classes = Boxes(torch.tensor([box])), torch.tensor([0])
        truth.gt_masks = masks
        assert (expected == draw_detections(GREY, truth, NAMES)).all()


def test_parts_crowds_and_objects_without_masks_are_drawn_together() -> None:
    box = {"bbox": [10, 10, 480, 380], "bbox_mode": BoxMode.XYXY_ABS}
    parts = [[50, 100, 90, 100, 90, 140, 50, 140], [200, 100, 240, 100, 240, 140, 200, 140]]
    crowd = mask_util.encode(np.asfortranarray(square_mask(300, 200, 350, 250).astype(np.uint8)))
    annotations = [
        {**box, "category_id": 0, "segmentation": parts},
        {**box, "category_id": 1, "segmentation": crowd, "iscrowd": 1},
        {**box, "category_id": 1},
    ]
    picture = draw_detections(GREY, annotations, NAMES)
    assert veiled(picture, 0)[105:135, 55:85].all() and veiled(picture, 0)[105:135, 205:235].all()
    assert not changed(GREY, picture)[100:140, 110:190].any()
    assert veiled(picture, 1)[205:245, 305:345].all()


def test_masks_follow_scores_and_the_size_of_the_picture() -> None:
    small = np.full((64, 128, 3), 128, dtype=np.uint8)
    boxes = [[1.0, 1.0, 127.0, 63.0]] * 2
    masks = [square_mask(*place, size=(64, 128)) for place in ((32, 16, 64, 48), (80, 16, 112, 48))]
    found = with_masks(predictions(boxes, [0.9, 0.2], [0, 1], size=(64, 128)), *masks)
    picture = draw_detections(small, found, NAMES)
    assert picture.shape == (192, 384, 3)
    assert veiled(picture, 0)[60:130, 105:180].all()
    assert not changed(np.full_like(picture, 128), picture)[50:140, 245:330].any()
    empty = with_masks(predictions([], [], [], size=(64, 128)))
    assert (draw_detections(small, empty, NAMES) == 128).all()


def test_the_better_mask_lies_on_top() -> None:
    mask = square_mask(150, 200, 250, 300)
    boxes = [[100.0, 150.0, 300.0, 350.0]] * 2
    for scores, colour in (([0.9, 0.6], 0), ([0.6, 0.9], 1)):
        found = with_masks(predictions(boxes, scores, [0, 1]), mask, mask)
        assert (draw_detections(GREY, found, NAMES)[299, 200] == class_colour(colour)).all()


def test_crowds_and_parts_of_real_photos_are_drawn(shared: Path, catalog) -> None:
    """Every pixel of every mask differs from the photo, RLE and polygons alike."""
    folder = shared / "data" / "coco_mini"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    json_file = folder / "annotations" / "instances_val.json"
    name = register_coco_json("drawn_coco_mini", json_file, folder / "val")
    names = MetadataCatalog.get(name).thing_classes
    kinds = set()
    for record in checked_dataset_dicts(name, maskless="error", check_files=False):
        for entry in record["annotations"]:
            kind = "rle" if isinstance(entry["segmentation"], dict) else "polygons"
            kind = "parts" if len(entry["segmentation"]) > 1 and kind == "polygons" else kind
            if kind in kinds:
                continue
            kinds.add(kind)
            image = np.zeros((record["height"], record["width"], 3), dtype=np.uint8)
            picture = draw_detections(image, [entry], names)
            mask = rasterise(entry["segmentation"], *image.shape[:2])
            assert changed(image, picture)[mask].all(), kind
    assert kinds == {"rle", "polygons", "parts"}


def test_colours_are_distinct_and_text_on_them_is_readable() -> None:
    assert len({class_colour(index) for index in range(80)}) == 80
    assert ink_on((255, 255, 0)) == (20, 20, 20)
    assert ink_on((0, 0, 120)) == (255, 255, 255)


# the grid


def test_a_grid_of_images_of_many_shapes(tmp_path: Path) -> None:
    items = []
    for height, width in ((128, 128), (300, 100), (100, 700), (600, 800), (1, 1)):
        image = np.full((height, width, 3), 90, dtype=np.uint8)
        box = [0.0, 0.0, width / 2, height / 2]
        annotation = {"bbox": box, "bbox_mode": BoxMode.XYXY_ABS, "category_id": 1}
        found = predictions([box], [0.7], [0], size=(height, width))
        items.append(Comparison(image, [annotation], found, title=f"{height}x{width}.jpg"))
    items.append(Comparison(GREY, [], predictions([], [], [])))
    path = save_comparison_grid(tmp_path / "new" / "grid.png", items, NAMES, title="six")
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        assert picture.width > 1800
        pixels = np.array(picture.convert("RGB"))
    assert (pixels == class_colour(1)).all(-1).sum() > 500  # the truths
    assert (pixels == class_colour(0)).all(-1).sum() > 500  # the predictions
    with pytest.raises(ValueError, match="no image to draw"):
        save_comparison_grid(tmp_path / "none.png", [], NAMES)


def test_truth_is_left_and_predictions_are_right(tmp_path: Path) -> None:
    annotation = {"bbox": [50, 50, 300, 300], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 0}
    found = predictions([[50.0, 50.0, 350.0, 350.0]], [0.9], [1])
    path = save_comparison_grid(
        tmp_path / "grid.png", [Comparison(GREY, [annotation], found)], [f"c{i}" for i in range(30)]
    )
    pixels = np.array(Image.open(path).convert("RGB"))
    middle = pixels.shape[1] // 2
    left, right = pixels[:, :middle], pixels[:, middle:]
    for half, here, elsewhere in ((left, 0, 1), (right, 1, 0)):
        assert (half == class_colour(here)).all(-1).any()
        assert not (half == class_colour(elsewhere)).all(-1).any()


# the curves


def write_metrics(path: Path, entries: list[dict], tail: str = "") -> Path:
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries) + tail)
    return path


def entries_of_training(first: int, last: int, level: float = 1.0) -> list[dict]:
    entries = []
    for step in range(first, last, 20):
        entry = {"iteration": step, "lr": 1e-4, "total_loss": 9.0}
        for layer in range(3):
            for term in ("class", "l1", "giou"):
                entry[f"one_to_one/{layer}/{term}"] = level
                entry[f"mixed/{layer}/{term}"] = 2 * level
        entries.append(entry)
    return entries


def test_losses_are_summed_over_layers(tmp_path: Path) -> None:
    path = write_metrics(tmp_path / "metrics.json", entries_of_training(19, 100))
    losses = loss_series(read_metrics(path))
    assert losses["one_to_one", "giou"] == dict.fromkeys(range(19, 100, 20), 3.0)
    assert losses["mixed", "class"][99] == 6.0


def test_losses_of_auxiliary_heads_are_apart_from_those_of_their_queries(tmp_path: Path) -> None:
    entries = entries_of_training(19, 100)
    for entry in entries:
        entry |= {"atss/0/giou": 1.0, "atss/1/giou": 2.0, "atss/encoder/giou": 7.0}
        entry["ema/bbox/AP"] = 8.0
    path = write_metrics(tmp_path / "metrics.json", entries)
    losses = loss_series(read_metrics(path))
    assert losses["atss", "giou"][19] == 3.0
    assert losses["atss/encoder", "giou"][19] == 7.0
    assert {name for name, _ in losses} == {"one_to_one", "mixed", "atss", "atss/encoder"}
    picture = save_training_curves(path, tmp_path / "curves.png")
    # The first of the further colours has both, a line and a dashed one.
    write_metrics(path, [{k: v for k, v in e.items() if "encoder" not in k} for e in entries])
    without = save_training_curves(path, tmp_path / "without.png")
    assert count_colour(picture, "#9b3fb5") > count_colour(without, "#9b3fb5") > 100


def test_a_truncated_last_line_is_left_out(tmp_path: Path, caplog) -> None:
    path = write_metrics(
        tmp_path / "metrics.json", entries_of_training(19, 60), '{"iteration": 79, "tot'
    )
    assert max(read_metrics(path)["total_loss"]) == 59
    assert "last line" in caplog.text


def test_a_broken_line_in_the_middle_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    path.write_text('{"iteration": 1, "a": 1}\n{"iter\n{"iteration": 2, "a": 1}\n')
    with pytest.raises(ValueError, match="line 2"):
        read_metrics(path)


def test_after_a_resume_the_later_lines_win(tmp_path: Path) -> None:
    entries = entries_of_training(19, 200, 1.0) + entries_of_training(109, 180, 5.0)
    series = read_metrics(write_metrics(tmp_path / "metrics.json", entries))["mixed/0/l1"]
    assert list(series) == sorted(series)
    assert [step for step, value in series.items() if value == 2.0] == [19, 39, 59, 79, 99]
    assert [step for step, value in series.items() if value == 10.0] == [109, 129, 149, 169]
    same = entries_of_training(19, 40, 1.0) + [{"iteration": 39, "mixed/0/l1": 7.0}]
    assert read_metrics(write_metrics(path := tmp_path / "b.json", same))["mixed/0/l1"][39] == 7.0
    assert path.exists()


def inked(path: Path) -> np.ndarray:
    pixels = np.array(Image.open(path).convert("RGB")).astype(int)
    return pixels


def count_colour(path: Path, hexadecimal: str) -> int:
    colour = [int(hexadecimal[start : start + 2], 16) for start in (1, 3, 5)]
    return int((np.abs(inked(path) - colour).max(-1) < 6).sum())


def test_curves_of_both_supervisions_and_ap(tmp_path: Path) -> None:
    precision = [
        {"iteration": step, "bbox/AP": step / 10, "bbox/AP50": step / 5} for step in (99, 199)
    ]
    entries = sorted(entries_of_training(19, 200) + precision, key=lambda entry: entry["iteration"])
    metrics = write_metrics(tmp_path / "metrics.json", entries)
    path = save_training_curves(metrics, tmp_path / "new" / "curves.png", title="demo")
    with Image.open(path) as picture:
        assert picture.format == "PNG" and picture.width >= 1200
    assert count_colour(path, "#1f5fbf") > 1000
    assert count_colour(path, "#e2661a") > 1000
    assert count_colour(path, "#2e9e5b") > 200


def test_curves_of_masks(tmp_path: Path) -> None:
    entries = entries_of_training(19, 200)
    for entry in entries:
        entry |= {"one_to_one/1/mask": 2.0, "one_to_one/1/dice": 3.0}
    entries.append({"iteration": 199, "bbox/AP": 50.0, "segm/AP": 40.0, "segm/AP50": 60.0})
    metrics = write_metrics(tmp_path / "metrics.json", entries)
    path = save_training_curves(metrics, tmp_path / "curves.png")
    for colour in ("#9b3fb5", "#c7a008"):
        assert count_colour(path, colour) > 50
    with Image.open(path) as picture:
        assert picture.height > 1200  # three rows: five terms and the precision


def test_curves_without_mixed_losses_and_with_undefined_ap(tmp_path: Path) -> None:
    entries = [
        {key: value for key, value in entry.items() if not key.startswith("mixed")}
        for entry in entries_of_training(19, 100)
    ]
    entries.append({"iteration": 99, "bbox/AP": math.nan})
    metrics = write_metrics(tmp_path / "metrics.json", entries)
    path = save_training_curves(metrics, tmp_path / "curves.png")
    assert count_colour(path, "#1f5fbf") > 500
    assert count_colour(path, "#e2661a") == 0


def test_one_logged_step_is_visible(tmp_path: Path) -> None:
    entries = [{"iteration": 19, "one_to_one/0/l1": 1.0}]
    one = save_training_curves(write_metrics(tmp_path / "a.json", entries), tmp_path / "curves.png")
    # the line in the legend has about 100 pixels; the two dots, there and in the panel, the rest
    assert count_colour(one, "#1f5fbf") > 180


def test_supervisions_and_terms_of_others_are_drawn(tmp_path: Path) -> None:
    entries = [
        {
            "iteration": step,
            "my_groups/0/l1": 1.0,
            "my_groups/1/l1": 1.0,
            "denoising/0/iou": 3.0,
            "one_to_one/0/l1": 1.0,
            "bbox/AP-cat/dog": 50.0,
        }
        for step in range(19, 200, 20)
    ]
    metrics = write_metrics(tmp_path / "metrics.json", entries)
    losses = loss_series(read_metrics(metrics))
    assert losses.keys() == {("my_groups", "l1"), ("denoising", "iou"), ("one_to_one", "l1")}
    path = save_training_curves(metrics, tmp_path / "curves.png")
    assert count_colour(path, "#1f5fbf") > 500  # one_to_one keeps its own
    assert count_colour(path, "#9b3fb5") > 500  # my_groups
    assert count_colour(path, "#2e9e5b") > 500  # denoising, in a panel of its own
    with Image.open(path) as picture:
        assert picture.height > 1200  # three rows


@pytest.mark.parametrize("steps", [[5], [19], [0, 1], [90000, 90001], [119999, 120003]])
def test_iterations_are_whole_numbers(steps: list[int]) -> None:
    panel = Figure().subplots()
    _prepare(panel, "")
    panel.plot(steps, [1.0] * len(steps))
    FigureCanvasAgg(panel.figure).draw()
    low, high = panel.get_xlim()
    shown = [tick for tick in panel.get_xticks() if low <= tick <= high]
    assert shown and all(tick == round(tick) for tick in shown)
    labels = [label.get_text() for label in panel.get_xticklabels()]
    assert labels == [f"{tick:.0f}".replace("-", "\N{MINUS SIGN}") for tick in panel.get_xticks()]


def test_metrics_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"nowhere\.json: the metrics do not exist"):
        save_training_curves(tmp_path / "nowhere.json", tmp_path / "curves.png")
    metrics = write_metrics(tmp_path / "metrics.json", [{"iteration": 1, "lr": 1.0}])
    with pytest.raises(ValueError, match="no loss named"):
        save_training_curves(metrics, tmp_path / "curves.png")


def test_metrics_of_averaged_weights_are_no_losses():
    metrics = {"mixed/0/l1": {0: 1.0}, "mixed/1/l1": {0: 2.0}, "ema/bbox/AP": {0: 40.0}}
    assert loss_series(metrics) == {("mixed", "l1"): {0: 3.0}}
