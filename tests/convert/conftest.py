"""The makers of official state dicts, on the path of the tests beside them."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
