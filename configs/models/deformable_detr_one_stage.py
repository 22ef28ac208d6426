"""One-stage Deformable-DETR with iterative box refinement: learned queries, no proposals."""

from detectron2.config import LazyCall as L

from ms_detr.queries import LearnedQueries

from .deformable_detr import model

model.queries = L(LearnedQueries)(num_queries=300, embed_dim="${..neck.embed_dim}")
# References begin as points, so the first boxes take their size from the head alone.
model.heads.initial_size_logit = -2.0
del model.supervisions.proposals
