"""How a run goes, whatever is trained: 12 epochs of COCO in batches of 16 unless overridden."""

train = {
    "output_dir": "./output",
    # Weights to start from: a path, or a detectron2:// address. "" starts from initial values.
    "init_checkpoint": "",
    # Parts of the model that are not trained, by dotted name: ["backbone", "encoder"].
    "freeze": [],
    # Parts that keep their inputs only and are computed anew in the backward pass, which takes less
    # memory and more time: ["encoder.layers", "decoder.layers", "backbone.res3"].
    "activation_checkpointing": [],
    # 12 epochs of 7393 iterations, see schedule.py.
    "max_iter": 12 * 7393,
    # An update is computed in so many parts, one after the other, to save memory; it stays one of
    # dataloader.train.total_batch_size images.
    "accumulate": 1,
    # "bf16" or "fp16" (with loss scaling); weights stay in float32.
    "amp": {"enabled": False, "dtype": "bf16"},
    # Total L2 norm of all gradients; None only measures it.
    "clip_grad": {"max_norm": 0.1},
    # An average of the weights, evaluated beside them: over about 1 / (1 - decay) updates, fewer
    # at the beginning (docs/training.md).
    "ema": {"enabled": False, "decay": 0.9999, "warmup": 10},
    # Options of DistributedDataParallel.
    "ddp": {
        "broadcast_buffers": False,
        "find_unused_parameters": False,
        "fp16_compression": False,
    },
    # A checkpoint every so many iterations, of which the last few stay, and the weights of the best
    # evaluation by this metric ("ema/bbox/AP": the averaged weights; None: none).
    "checkpointer": {"period": 7393, "max_to_keep": 3, "best": "bbox/AP"},
    # In iterations; 0 evaluates at the end only.
    "eval_period": 7393,
    "log_period": 20,
    # Where time and memory of a step go, once in log_period iterations (docs/performance.md).
    "profile": False,
    # "auto" is the GPU if there is one, else the CPU.
    "device": "auto",
    # Of everything random: initial weights, order and augmentation of images, dropout, noise. A
    # negative seed draws one.
    "seed": 42,
    # The same bits from the same seed on the same machine; slower on a GPU (docs/training.md).
    "deterministic": False,
    "cudnn_benchmark": False,
    # Check annotations and image files before the first iteration. What was found sound is not
    # looked at again until it changes, see docs/data.md.
    "check_data": True,
}
