"""DINO with a fifth, finer level: the backbone's map of stride 4."""

from .dino import model

model.backbone.out_features = ["res2", "res3", "res4", "res5"]
model.neck.in_channels = {"res2": 256, "res3": 512, "res4": 1024, "res5": 2048}
model.neck.num_levels = 5
