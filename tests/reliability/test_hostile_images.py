"""Hostile image files: each is refused with its name, or its pixels arrive as they should."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path

import detectron2.data.transforms as T
import numpy as np
import pytest
from detectron2.data import detection_utils as utils
from hostile_cases import Case, HostileSet, table
from PIL import Image

from ms_detr.data import BoxMapper, DatasetError, DetrResize, InstanceMaskMapper, check_coco_json

HEIGHT, WIDTH = 40, 60


def picture(mode: str = "RGB") -> Image.Image:
    """Smooth, so that it survives a JPEG, and without a symmetry."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    pixels = np.stack([4 * columns, 6 * rows, 2 * columns + 2 * rows], 2).astype(np.uint8)
    return Image.fromarray(pixels).convert(mode)


def encode(image: Image.Image, kind: str = "JPEG", **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def noise(**options) -> bytes:
    """A JPEG with data all over."""
    pixels = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    return encode(Image.fromarray(pixels), **options)


def cut(data: bytes, share: float, end: bytes = b"") -> bytes:
    return data[: int(len(data) * share)] + end


def chunk(name: bytes, content: bytes) -> bytes:
    check = struct.pack(">I", zlib.crc32(name + content))
    return struct.pack(">I", len(content)) + name + content + check


def bomb(width: int, height: int) -> bytes:
    """A PNG of a hundred bytes that says it is this large."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + data


def place(data: bytes, name: str = "a.jpg"):
    """Puts these bytes where the json looks for the first image."""

    def make(hostile: HostileSet) -> None:
        (hostile.root / name).write_bytes(data)
        hostile.images[0]["file_name"] = name

    return make


def fifo(hostile: HostileSet) -> None:
    os.mkfifo(hostile.root / "pipe.jpg")
    hostile.images[0]["file_name"] = "pipe.jpg"


def circle(hostile: HostileSet) -> None:
    (hostile.root / "x.jpg").symlink_to("y.jpg")
    (hostile.root / "y.jpg").symlink_to("x.jpg")
    hostile.images[0]["file_name"] = "x.jpg"


def folder(hostile: HostileSet) -> None:
    (hostile.root / "a.jpg").mkdir()
    hostile.images[0]["file_name"] = "a.jpg"


END = b"\xff\xd9"
DEEP = np.linspace(0, 65535, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH).astype(np.uint16)
FLOATS = Image.fromarray(np.full((HEIGHT, WIDTH), 0.5, np.float32))
NOT_AN_IMAGE = ("image 10", "a.jpg", "not an image", "replace the file")
CUT = ("image 10", "a.jpg", "cannot be read to its end", "copy or export")

REFUSED = [
    Case("no bytes", place(b""), ("image 10", "a.jpg", "is empty", "copy the file again")),
    Case("text", place(b"<html>404 not found</html>" * 9), NOT_AN_IMAGE),
    Case("the start of a JPEG only", place(b"\xff\xd8\xff\xe0"), NOT_AN_IMAGE),
    Case("a JPEG that is cut", place(cut(noise(), 0.5)), CUT),
    Case("a JPEG that is cut and ended", place(cut(noise(), 0.5, END)), CUT),
    Case("a JPEG that is cut late and ended", place(cut(noise(), 0.8, END)), CUT),
    Case("a grey one", place(cut(encode(Image.open(io.BytesIO(noise())).convert("L")), 0.6, END)),
         CUT),
    Case("a CMYK one", place(cut(encode(Image.open(io.BytesIO(noise())).convert("CMYK")), 0.6,
         END)), CUT),
    Case("a progressive one", place(cut(noise(progressive=True), 0.9, END)), CUT),
    Case("a progressive one, cut early", place(cut(noise(progressive=True), 0.5, END)), CUT),
    Case("a PNG that is cut", place(cut(encode(picture(), "PNG"), 0.7)), CUT),
    Case("a PNG without data", place(bomb(WIDTH, HEIGHT)), CUT),
    Case("a GIF that is cut", place(cut(encode(picture("P"), "GIF"), 0.6)), CUT),
    Case("a TIFF that is cut", place(cut(encode(picture(), "TIFF"), 0.5)), ("image 10", "a.jpg")),
    Case("a bomb", place(bomb(60_000, 60_000)), ("image 10", "too large", "reduce its size")),
    Case("a bomb of 2**31 a side", place(bomb(2**31 - 1, 2**31 - 1)), ("image 10", "too large")),
    Case("16 bits", place(encode(Image.fromarray(DEEP), "PNG")),
         ("more than 8 bits", "convert it")),
    Case("32 bits", place(encode(picture("L").convert("I"), "TIFF")),
         ("more than 8 bits", "mode I")),
    Case("floats", place(encode(FLOATS, "TIFF")), ("more than 8 bits", "mode F")),
    Case("another size", place(noise()[:2] + encode(picture().resize((9, 7)))[2:]),
         ("9 x 7", "60 x 40")),
    Case("a pipe", fifo, ("pipe.jpg", "a pipe or a device", "correct file_name")),
    Case("a folder", folder, ("a.jpg", "a folder", "correct file_name")),
    Case("links in a circle", circle, ("x.jpg", "cannot be reached", "correct image_root")),
]  # fmt: skip


@table(REFUSED)
def test_refused(case: Case, tmp_path: Path) -> None:
    data = HostileSet(tmp_path)
    case.make(data)
    data.write()
    with pytest.raises(DatasetError) as caught:
        check_coco_json(data.json_file, data.root)
    case.require(str(caught.value))
    assert str(caught.value).startswith(f"{data.json_file}: 1 defect")


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read every file")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    data = HostileSet(tmp_path)
    data.write()
    (tmp_path / "a.png").chmod(0)
    with pytest.raises(DatasetError, match=r"a\.png.*cannot be read \(Permission.*permissions"):
        check_coco_json(data.json_file, data.root)


def of_mode(mode: str, kind: str = "PNG"):
    return lambda: (encode(picture(mode), kind), np.asarray(picture(mode).convert("RGB")))


def with_alpha() -> tuple[bytes, np.ndarray]:
    """Colours under transparent pixels stay what they are."""
    image = picture("RGBA")
    image.putalpha(0)
    return encode(image, "PNG"), np.asarray(picture())


def animation() -> tuple[bytes, np.ndarray]:
    still = picture("P")
    others = [still.transpose(Image.Transpose.ROTATE_180)]
    return encode(still, "GIF", save_all=True, append_images=others), np.asarray(
        still.convert("RGB")
    )


def broken_exif() -> tuple[bytes, np.ndarray]:
    data = encode(picture(), quality=95, exif=b"Exif\0\0II*\0\xff\xff\xff\xff garbage")
    return data, np.asarray(picture())


READ = [
    Case("JPEG", lambda: (encode(picture(), quality=95), np.asarray(picture()))),
    Case("progressive", lambda: (encode(picture(), quality=95, progressive=True),
         np.asarray(picture()))),
    Case("CMYK", lambda: (encode(picture("CMYK"), quality=95), np.asarray(picture()))),
    Case("grey", of_mode("L")),
    Case("grey with alpha", of_mode("LA")),
    Case("palette", of_mode("P")),
    Case("one bit", of_mode("1")),
    Case("alpha", with_alpha),
    Case("animated GIF", animation),
    Case("WebP", lambda: (encode(picture(), "WEBP", lossless=True), np.asarray(picture()))),
    Case("BMP under a wrong ending", of_mode("RGB", "BMP")),
    Case("metadata of garbage", broken_exif),
]  # fmt: skip


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@table(READ)
def test_pixels_arrive(case: Case, tmp_path: Path) -> None:
    content, wanted = case.make()
    data = HostileSet(tmp_path)
    place(content)(data)
    data.write()
    check_coco_json(data.json_file, data.root)
    record = {
        "file_name": str(tmp_path / "a.jpg"),
        "image_id": 10,
        "width": WIDTH,
        "height": HEIGHT,
    }
    mapper = BoxMapper(is_train=False, augmentations=[], image_format="RGB")
    pixels = mapper(record)["image"].permute(1, 2, 0).numpy()
    assert pixels.shape == wanted.shape
    # a JPEG is near, everything else exact
    assert np.abs(pixels.astype(int) - wanted).max() <= (12 if content[:2] == b"\xff\xd8" else 0)


# what an upright picture becomes when it is stored in each of the eight ways
STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@pytest.mark.parametrize("orientation", STORED)
def test_every_orientation_arrives_upright(tmp_path: Path, orientation: int) -> None:
    image, turn = picture(), STORED[orientation]
    exif = Image.Exif()
    exif[274] = orientation
    stored = image if turn is None else image.transpose(turn)
    data = HostileSet(tmp_path)
    place(encode(stored, quality=95, subsampling=0, exif=exif.tobytes()))(data)
    data.write()
    check_coco_json(data.json_file, data.root)
    pixels = utils.read_image(str(tmp_path / "a.jpg"), "RGB")
    assert np.abs(pixels.astype(int) - np.asarray(image)).max() <= 8
    data.images[0].update(width=HEIGHT, height=WIDTH)
    data.write()
    with pytest.raises(DatasetError, match="EXIF orientation applied"):
        check_coco_json(data.json_file, data.root)


@pytest.mark.parametrize("size", [(1, 1), (20_000, 20), (20, 20_000)])
def test_extreme_shapes_pass_the_check_and_load_or_are_named(tmp_path: Path, size) -> None:
    width, height = size
    data = HostileSet(tmp_path)
    place(encode(Image.new("RGB", size, (9, 99, 199))))(data)
    data.images[0].update(width=width, height=height)
    data.annotations[0].update(bbox=[0, 0, width, height], segmentation=[])
    data.write()
    check_coco_json(data.json_file, data.root)
    record = {
        "file_name": str(tmp_path / "a.jpg"), "image_id": 10, "width": width, "height": height,
        "annotations": [{**data.annotations[0], "bbox_mode": 1, "category_id": 0}],
    }  # fmt: skip
    recipe = [DetrResize(short_edge_length=[480], max_size=1333)]
    mapped = BoxMapper(is_train=True, augmentations=recipe, image_format="RGB")(record)
    high, wide = mapped["image"].shape[1:]
    assert max(high, wide) <= 2000 and min(high, wide) >= 1
    assert mapped["instances"].gt_boxes.tensor.tolist() == [[0, 0, wide, high]]
    small = [T.ResizeShortestEdge(short_edge_length=240, max_size=320)]
    mapper = BoxMapper(is_train=True, augmentations=small, image_format="RGB")
    if size == (1, 1):
        assert mapper(record)["image"].shape == (3, 240, 240)
    else:
        with pytest.raises(
            DatasetError, match=r"image 10 \(.*a\.jpg\): cannot be .*augmented.*mend"
        ):
            mapper(record)


@pytest.mark.parametrize("mapper", [BoxMapper, InstanceMaskMapper])
def test_a_file_that_breaks_after_the_check_is_named(tmp_path: Path, mapper) -> None:
    options = {"is_train": True} if mapper is BoxMapper else {}
    load = mapper(augmentations=[], image_format="RGB", **options)
    for content in (cut(noise(), 0.5), b"", b"text", bomb(60_000, 60_000)):
        (tmp_path / "a.jpg").write_bytes(content)
        record = {"file_name": str(tmp_path / "a.jpg"), "image_id": 10, "annotations": []}
        with pytest.raises(DatasetError, match=r"image 10 \(.*a\.jpg\): cannot be read.*mend: "):
            load(record)
