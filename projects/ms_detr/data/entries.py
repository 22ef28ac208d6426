"""Checks of the entries of a COCO json: keys, ids, names, sizes."""

from __future__ import annotations

from collections.abc import Set
from typing import Any

from .errors import Defects

__all__ = ["check_categories", "check_images", "entries_of", "is_integer"]

_HUGE = 2**53  # from here on, neighbouring integers are one number to COCOeval


def entries_of(content: Any, key: str, defects: Defects, *, required: Set[str]) -> list[dict]:
    """Returns the sound entries of the list `content[key]`, after a check of their keys and ids.

    Args:
        content: the json.
        key: "categories", "images" or "annotations".
        defects: where to note what is wrong; also that the list is absent, not a list, or, but for
            annotations, empty.
        required: keys that every entry must have.
    """
    if key not in content:
        mend = (
            'a COCO json needs "images", "annotations" and "categories" (empty lists of '
            "annotations are allowed)"
        )
        defects.add("json", f'the key "{key}" is missing', mend)
        return []
    entries = content[key]
    if not isinstance(entries, list):
        what = f'"{key}" is a {type(entries).__name__}, not a list'
        defects.add("json", what, "write a list of objects")
        return []
    if not entries and key != "annotations":
        defects.add("json", f'the list "{key}" is empty', f"add {key}")
    noun = "category" if key == "categories" else key[:-1]
    sound, seen = [], set()
    for position, entry in enumerate(entries):
        if not isinstance(entry, dict):
            what = f"is a {type(entry).__name__}, not an object"
            defects.add(f"{key}[{position}]", what, "write an object")
        elif not required <= entry.keys():
            lacking = ", ".join(f'"{name}"' for name in sorted(required - entry.keys()))
            where = f"{noun} {entry['id']}" if "id" in entry else f"{key}[{position}]"
            defects.add(where, f"lacks {lacking}", f"add {lacking}")
        elif not is_integer(entry["id"]):
            what = f"the id {entry['id']!r} is not an integer"
            defects.add(f"{key}[{position}]", what, "number the entries with integers")
        elif abs(entry["id"]) >= _HUGE:
            what = f"the id has {entry['id'].bit_length()} bits, more than COCOeval can keep apart"
            defects.add(f"{key}[{position}]", what, "number the entries from 1")
        elif entry["id"] in seen:
            what = f"the id is used twice (again by {key}[{position}])"
            defects.add(f"{noun} {entry['id']}", what, "give every entry an id of its own")
        else:
            seen.add(entry["id"])
            sound.append(entry)
    return sound


def check_categories(categories: list[dict], defects: Defects) -> None:
    """Notes names that are not text, or that two categories share."""
    owner: dict[str, int] = {}
    for entry in categories:
        name = entry["name"]
        if not isinstance(name, str) or not name:
            what = f"the name {name!r} is not a text"
            defects.add(f"category {entry['id']}", what, "name the class")
        elif name in owner:
            what = f'the name "{name}" belongs to category {owner[name]} as well'
            defects.add(f"category {entry['id']}", what, "merge the two, or rename one")
        else:
            owner[name] = entry["id"]


def check_images(images: list[dict], defects: Defects) -> list[dict]:
    """Returns the images whose file name and size can be used; notes the others."""
    sound = []
    for entry in images:
        where = f"image {entry['id']}"
        size = (entry["width"], entry["height"])
        if not isinstance(entry["file_name"], str) or not entry["file_name"]:
            what = f"file_name is {entry['file_name']!r}, not a text"
            defects.add(where, what, "write the path of the file under the image folder")
        elif not all(is_integer(side) and side > 0 for side in size):
            what = f"width and height are {size[0]!r} and {size[1]!r}, not positive integers"
            defects.add(f"{where} ({entry['file_name']})", what, "write the size in pixels")
        else:
            sound.append(entry)
    return sound


def is_integer(value: Any) -> bool:
    """Whether a value of a json is a whole number; truth values are not."""
    return isinstance(value, int) and not isinstance(value, bool)
