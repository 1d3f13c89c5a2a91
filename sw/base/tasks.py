"""A part of long work: data that say what to do, and a result of what JSON has."""

import traceback
from typing import Any

from lutcore.sw.base.cache import Kept, source_digest
from lutcore.sw.base.errors import LutcoreError

__all__ = ["Task", "perform", "sources"]

_PACKAGES = tuple(f"lutcore.{name}" for name in ("hw", "sim", "sw", "verif", "fpga"))


class Task:
    """Work whose result depends on its attributes and on the sources alone. It can be pickled."""

    #: Seconds after which it has failed; None: any time.
    limit: float | None = None

    def run(self) -> dict[str, Any]:
        """Do it: the result, of what JSON has.

        Raises
        ------
        LutcoreError
            If it cannot be done.
        """
        raise NotImplementedError

    def kept(self) -> Kept | None:
        """Where its result is kept; None if it is done anew each time."""
        return None


def sources() -> str:
    """Digest of all sources of lutcore on this machine."""
    return source_digest(*_PACKAGES)


def perform(task: Task) -> dict[str, Any]:
    """Run a task in this very process.

    Returns
    -------
    dict
        ``result``, or ``error``: the reason why there is none.
    """
    try:
        return {"result": task.run()}
    except LutcoreError as error:
        return {"error": str(error)}
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        text = f"{type(error).__name__}: {error}"
        return {"error": f"{text} ({where.filename}:{where.lineno})"}
