"""What travels with a table set to ARRAY, and with a run to SCALE."""

from amaranth.hdl import signed
from amaranth.lib import data

from lutcore.hw.contract.config import CoreConfig

__all__ = ["run_layout", "run_tag", "set_tag"]


def set_tag(config: CoreConfig) -> data.StructLayout:
    """What ARRAY has to know of a table set."""
    flags = ("run_first", "run_last", "body_first", "w_take", "w_give")
    return data.StructLayout(
        {
            # Of its accumulators: one per tile, or per tile and plane.
            "last_entry": range(max(2, config.tiles)),
            **dict.fromkeys(flags, 1),
            # Tables whose sign bit is a column of the run, not past its end.
            "signs": config.depth,
        }
    )


def run_tag(config: CoreConfig) -> data.StructLayout:
    """What SCALE has to know of a run."""
    flags = ("body_first", "s_take", "s_give", "t_take", "t_give", "t_first", "t_zero")
    flags += ("b_take", "b_give", "n_last", "r_last")
    return data.StructLayout(
        {
            "tiles": range(config.tiles + 1),
            "rows": range(config.rows + 1),
            **dict.fromkeys(flags, 1),
        }
    )


def run_layout(config: CoreConfig) -> data.StructLayout:
    """A run's tag and, for each row, the sum of its activations."""
    return data.StructLayout(
        {"tag": run_tag(config), "sums": data.ArrayLayout(signed(config.asum_width), config.rows)}
    )
