"""The subset that tools/overfit.py trains on."""

import importlib.util

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
