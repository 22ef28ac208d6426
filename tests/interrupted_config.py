"""The tiny config with a detector and an evaluator that can interrupt a run."""

from pathlib import Path

from detectron2.config import LazyCall as L
from detectron2.config import LazyConfig
from interrupted import InterruptedDetector, ScoreEvaluator

from ms_detr.data import count_classes

_tiny = LazyConfig.load(str(Path(__file__).resolve().parent / "engine" / "tiny_config.py"))
dataset, names, dataloader = _tiny.dataset, _tiny.names, _tiny.dataloader
train, optimizer, lr_multiplier = _tiny.train, _tiny.optimizer, _tiny.lr_multiplier

model = L(InterruptedDetector)(
    num_classes=L(count_classes)(json_file="${dataset.root}/scenes.json"), at=0, how="error"
)
dataloader.evaluator = L(ScoreEvaluator)(signal_at=0)

train.max_iter = 12
train.log_period = 2
train.eval_period = 4
train.checkpointer.period = 3
