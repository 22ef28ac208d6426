"""Other runtimes on our own detector, exported: arms of tools/benchmark_inference.py.

ONNX has no operator for deformable attention, so what is exported is the form that all public code
has: softmax, and ``grid_sample`` level by level.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable
from pathlib import Path

import op_arms
import torch
from torch import Tensor, nn

from ms_detr.inference.replace import replace_modules
from ms_detr.layers import MultiScaleDeformableAttention
from ms_detr.structures import FeaturePyramid

MODULES = ("onnx", "onnxruntime", "openvino")
COMMAND = 'pip install -c constraints.txt --no-build-isolation -e ".[benchmarks]"'
_OPSET = 17
Outputs = tuple[Tensor, Tensor]  # class logits (1, N, K) and boxes (1, N, 4)


def missing() -> list[str]:
    """Which of the peers' packages are not installed."""
    return [name for name in MODULES if importlib.util.find_spec(name) is None]


class GridSampleAttention(MultiScaleDeformableAttention):
    """Deformable attention in operations that ONNX has.

    Args:
        attention: whose parts are used.
    """

    def __init__(self, attention: MultiScaleDeformableAttention):
        nn.Module.__init__(self)
        self.__dict__.update(attention.__dict__)

    def sampled(
        self,
        value_BSC: Tensor,
        offsets: Tensor,
        logits: Tensor,
        reference_BNr: Tensor,
        memory: FeaturePyramid,
    ) -> Tensor:
        shapes = tuple((int(h), int(w)) for h, w in memory.shapes)
        per_head = (*reference_BNr.shape[:2], self.num_heads)
        reference = self._on_levels(reference_BNr, memory)[:, :, None, :, None]
        offsets = offsets.view(*per_head, self.num_levels, self.num_points, 2)
        if reference.shape[-1] == 2:
            steps = 1 / torch.tensor([(w, h) for h, w in shapes]).view(-1, 1, 2)
        else:
            steps = reference[..., 2:] * (0.5 / self.num_points)
        weights = logits.view(*per_head, -1).softmax(-1)
        problem = op_arms.Problem(
            shapes=shapes,
            value=value_BSC.unflatten(-1, (self.num_heads, -1)),
            locations=reference[..., :2] + offsets * steps,
            weights=weights.view(*per_head, self.num_levels, self.num_points),
            reference=reference, offsets=offsets, logits=logits, grad=value_BSC,
        )  # fmt: skip
        return op_arms.official(problem)


class Detect(nn.Module):
    """Images to the predictions of the last layer, all images as large as the batch.

    Args:
        detector: a detector in evaluation mode.
    """

    def __init__(self, detector: nn.Module):
        super().__init__()
        self.detector = detector

    def forward(self, images_B3HW: Tensor) -> Outputs:
        size = tuple(int(side) for side in images_B3HW.shape[-2:])
        states, _ = self.detector.detect(images_B3HW, [size] * len(images_B3HW))
        predictions = self.detector.predict(states)
        return predictions.logits_BNK, predictions.boxes_BN4


def export(detector: nn.Module, images: Tensor, path: Path) -> None:
    """Write a detector as ONNX, for images of this shape.

    Args:
        detector: in evaluation mode, of boxes; its attentions are replaced.
    """
    replace_modules(detector, MultiScaleDeformableAttention, GridSampleAttention)
    with warnings.catch_warnings(), torch.no_grad():
        # Sizes become constants: they are meant to.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Detect(detector), (images,), str(path), dynamo=False, opset_version=_OPSET,
            input_names=["images"], output_names=["logits", "boxes"],
        )  # fmt: skip


def onnxruntime_arm(path: Path, threads: int, images: Tensor) -> Callable[[], Outputs]:
    """ONNX Runtime in float32."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    feed = {"images": images.numpy()}

    def run() -> Outputs:
        logits, boxes = session.run(["logits", "boxes"], feed)
        return torch.from_numpy(logits), torch.from_numpy(boxes)

    return run


def openvino_arm(
    path: Path, threads: int, images: Tensor, precision: str = "f32"
) -> Callable[[], Outputs]:
    """OpenVINO; ``precision`` is its inference precision, "f32" or "bf16"."""
    import openvino

    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": precision,
        "PERFORMANCE_HINT": "LATENCY",
    }
    compiled = openvino.Core().compile_model(str(path), "CPU", settings)
    request = compiled.create_infer_request()
    data = images.numpy()

    def run() -> Outputs:
        result = request.infer([data], share_inputs=True)
        logits, boxes = (torch.from_numpy(result[name].copy()) for name in ("logits", "boxes"))
        return logits, boxes

    return run
