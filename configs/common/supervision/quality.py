"""What sets the best of Co-DINO's published runs apart: quality focal loss, and soft-NMS.

``add_quality(model)`` goes with any model here. Call it before ``mix_*``, whose one-to-many
supervision keeps the focal loss then, and before ``add_*``, whose entries copy what they find.
"""

from detectron2.config import LazyCall as L
from omegaconf import OmegaConf

from ms_detr.heads import SoftNMSDetections
from ms_detr.losses import FocalLoss, QualityFocalLoss


def add_quality(model) -> None:
    """Teach scores how well their boxes fit, and lower those of duplicates, in place."""
    entries = [node for node in model.supervisions.values() if OmegaConf.is_config(node)]
    for supervision in entries:
        terms = supervision.get("terms") or {}
        if "class" in terms and terms["class"]._target_ is FocalLoss:
            terms["class"] = L(QualityFocalLoss)(weight=1.0, beta=2.0)
    if "detections" in model.postprocess:  # that is cut to the image afterwards
        model.postprocess.detections = _soft_nms(model.postprocess.detections)
    else:
        model.postprocess = _soft_nms(model.postprocess)


def _soft_nms(detections):
    return L(SoftNMSDetections)(num_detections=detections.num_detections, iou_threshold=0.8)
