"""MS-DETR (c) with the text's assigner on Deformable-DETR, 300 queries, 12 epochs."""

from ms_detr.assigners import BestObjectTopKAssigner

from ..ms_detr.ms_detr_r50_300q_12ep import dataloader, lr_multiplier, model, optimizer, train

model.supervisions.mixed.assigner._target_ = BestObjectTopKAssigner
del model.supervisions.mixed.assigner.positive_fraction
train.output_dir = "output/ms_detr_c_best_object_r50_300q_12ep"
