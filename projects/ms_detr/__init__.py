"""MS-DETR: mixed supervision for DETR, as a detectron2 project."""
