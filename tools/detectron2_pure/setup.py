"""Takes the place of the setup.py in the registry's archive, which compiles sources it lacks."""

from pathlib import Path

from setuptools import find_packages, setup

VERSION = "0.5"
PROJECTS = {
    "detectron2.projects.point_rend": "projects/PointRend/point_rend",
    "detectron2.projects.deeplab": "projects/DeepLab/deeplab",
    "detectron2.projects.panoptic_deeplab": "projects/Panoptic-DeepLab/panoptic_deeplab",
}
ZOO = Path("detectron2/model_zoo")
CONFIGS = [str(path.relative_to(ZOO)) for path in ZOO.glob("configs/**/*") if path.is_file()]

# What the Python files import. The archive's own list differs in four points: it pins black, which
# only pretty-prints configs; it caps iopath below 0.1.10, which works; it leaves torch and OpenCV
# to the user; it does not name setuptools, whose pkg_resources its model zoo reads (81 drops it).
REQUIREMENTS = [
    "torch>=1.7",
    "torchvision",
    "numpy",
    "Pillow>=7.1",
    "opencv-python-headless",
    "matplotlib",
    "pycocotools>=2.0.2",
    "termcolor>=1.1",
    "yacs>=0.1.6",
    "tabulate",
    "cloudpickle",
    "tqdm>4.29.0",
    "tensorboard",
    "fvcore>=0.1.5,<0.1.6",
    "iopath>=0.1.7,<0.2",
    "omegaconf>=2.1,<2.4",
    "hydra-core>=1.1",
    "pydot",
    "future",
    "setuptools<81",
]

setup(
    name="detectron2",
    version=VERSION,
    url="https://github.com/facebookresearch/detectron2",
    description="detectron2 as pure Python, without its compiled operations",
    license="Apache-2.0",
    packages=find_packages(include=["detectron2", "detectron2.*"]) + list(PROJECTS),
    package_dir=PROJECTS,
    package_data={"detectron2.model_zoo": CONFIGS},
    python_requires=">=3.7",
    install_requires=REQUIREMENTS,
)
