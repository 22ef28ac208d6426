"""Stands in for detectron2's compiled operations, which this pure-Python installation has not.

An operation is refused when it is asked for, so that ``hasattr`` tells the truth about it.
"""


def get_compiler_version():
    return "none (pure Python)"


def get_cuda_version():
    return "none (pure Python)"


def has_cuda():
    return False


def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)
    raise AttributeError(
        f"detectron2 is installed here as pure Python, without its compiled operation {name!r} "
        "(rotated boxes, deformable convolution, the fast COCO evaluation). For COCO evaluation "
        "pass use_fast_impl=False; for the others install detectron2 from source: "
        "python tools/install_detectron2.py --force --from <folder, archive or git address>"
    )
