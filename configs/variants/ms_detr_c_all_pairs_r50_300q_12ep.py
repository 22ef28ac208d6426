"""MS-DETR (c) with the assigner of Algorithm 1 on Deformable-DETR, 300 queries, 12 epochs."""

from ms_detr.assigners import AllPairsTopKAssigner

from ..ms_detr.ms_detr_r50_300q_12ep import dataloader, lr_multiplier, model, optimizer, train

model.supervisions.mixed.assigner._target_ = AllPairsTopKAssigner
del model.supervisions.mixed.assigner.positive_fraction
train.output_dir = "output/ms_detr_c_all_pairs_r50_300q_12ep"
