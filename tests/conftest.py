"""Makes the benches in tests/hw importable: pytest's importlib mode does not."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent / "hw"))
