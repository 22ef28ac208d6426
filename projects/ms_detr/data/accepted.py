"""Annotations that are used in part or not at all, and whether a training is left with objects."""

from __future__ import annotations

from dataclasses import dataclass

from .errors import DatasetError

__all__ = ["Accepted", "accepted_messages", "check_rest"]

_MOST_IDS = 20  # annotation ids that a line of the log names


@dataclass(frozen=True)
class Accepted:
    """Ids of annotations that are used in part, or whose data are completed.

    Attributes:
        degenerate: the box has zero width or height.
        without_mask: no segmentation, or one that covers nothing, although masks are wanted.
        in_part: some polygons have fewer than three points and are left out.
        boxless: there is no box; that of the mask is used.
        apart: the box and that of the mask, where it is wanted, share nothing.
        outside: ids of images, not annotations: their files lie outside the image folder.
    """

    degenerate: tuple[int, ...] = ()
    without_mask: tuple[int, ...] = ()
    in_part: tuple[int, ...] = ()
    boxless: tuple[int, ...] = ()
    apart: tuple[int, ...] = ()
    outside: tuple[int, ...] = ()


def accepted_messages(source: str, accepted: Accepted) -> list[str]:
    """One line for each kind, with its number and the first ids."""
    lines = []
    for ids, what in (
        (accepted.degenerate, "boxes of zero width or height are left out of training"),
        (
            accepted.without_mask,
            "objects without a mask are left out of training (they stay visible in the images, "
            "so the model learns them as background, for boxes too)",
        ),
        (accepted.in_part, "masks lose polygons of fewer than three points"),
        (accepted.boxless, "annotations have no box and get that of their mask"),
        (accepted.apart, "boxes do not overlap the mask of their object at all; check both"),
        (
            accepted.outside,
            'files lie outside the image folder (an absolute file_name, or one with "..")',
        ),
    ):
        if ids:
            shown = ", ".join(str(number) for number in ids[:_MOST_IDS])
            more = f" and {len(ids) - _MOST_IDS} more" if len(ids) > _MOST_IDS else ""
            noun = "image" if ids is accepted.outside else "annotation"
            lines.append(f"{source}: {len(ids)} {what}, {noun} ids {shown}{more}")
    return lines


def check_rest(
    source: str, annotations: list[dict], categories: list[dict], left_out: frozenset[int]
) -> list[str]:
    """Checks that a training has objects left, and names classes that lose all of theirs.

    Args:
        source: the json.
        annotations: all entries, sound; crowds are no objects.
        categories: all entries.
        left_out: ids of annotations that the training does not see.

    Returns:
        One line if there are such classes, or no object at all.

    Raises:
        DatasetError: There were objects, and all of them are left out.
    """
    objects = [entry for entry in annotations if not entry.get("iscrowd", 0)]
    if not objects:
        crowds = f" ({len(annotations)} are crowds)" if annotations else ""
        return [f"{source}: no annotation is an object{crowds}: nothing is to be learnt or found"]
    rest = [entry for entry in objects if entry["id"] not in left_out]
    if objects and not rest:
        noun = "the only object is" if len(objects) == 1 else f"all {len(objects)} objects are"
        raise DatasetError(
            f"{source}: {noun} left out of training (no mask, with maskless=skip; or a box of "
            "zero width or height, with degenerate=skip), so there is nothing to learn; mend: "
            "annotate the masks, or train boxes only: take a config without a mask head, such as "
            "configs/custom/small.py"
        )
    lost = {entry["category_id"] for entry in objects} - {entry["category_id"] for entry in rest}
    if not lost:
        return []
    names = ", ".join(repr(entry["name"]) for entry in categories if entry["id"] in lost)
    return [f"{source}: all objects of these classes are left out: {names}"]
