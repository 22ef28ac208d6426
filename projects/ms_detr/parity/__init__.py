"""Comparison of the detector with recorded runs of the official code."""

from .case import CaseError, GoldenCase, find_cases
from .compare import Row, table
from .matchers import compare_matchers
from .run import ParityRun

__all__ = ["CaseError", "GoldenCase", "ParityRun", "Row", "compare_matchers", "find_cases", "table"]
