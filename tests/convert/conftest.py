"""The makers of official state dicts, on the path of the tests beside them; the tool."""

import importlib.util
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))


@pytest.fixture(scope="session")
def tool(repository):
    """tools/convert.py."""
    spec = importlib.util.spec_from_file_location(
        "convert_tool", repository / "tools" / "convert.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
