"""Faults that only claims about their module tell, and faults that break none."""

from pathlib import Path

import pytest

from lutcore.hw.contract.config import CoreConfig
from lutcore.sim.rtl.verilog import verilog_of
from lutcore.verif.mutation.claims import Claims
from lutcore.verif.mutation.mutants import Mutant, Netlist, candidates, read_netlist

CONFIG = CoreConfig(lanes=8, rows=1, group=2, depth=1, planes=1, bus_width=32)
CORE = "lutcore.core"
QUEUE = f"{CORE}.engine.scale.queue"


@pytest.fixture(scope="module")
def netlist(tmp_path_factory: pytest.TempPathFactory) -> Netlist:
    return read_netlist(verilog_of(CONFIG), tmp_path_factory.mktemp("netlist"))


def fault(netlist: Netlist, module: str, **wanted: str) -> Mutant:
    """The first fault of a module that is like this."""
    for mutant in candidates(module, netlist.modules[module]):
        if all(getattr(mutant, key) == value for key, value in wanted.items()):
            return mutant
    raise AssertionError(f"{module} has no such fault: {wanted}")


@pytest.mark.parametrize(
    ("module", "wanted", "broken"),
    [
        # Tells of an error while it is idle.
        ("engine.window_fetch", {"mode": "const1", "signal": "busy", "port": "A"}, "refuses_once"),
        # Of two clients the one that had its turn goes on.
        (
            "reader.splitter",
            {"mode": "inv", "cell_type": "$eq", "signal": "latest[0]"},
            "takes_turns",
        ),
        ("engine.fetch", {"mode": "const1", "signal": "finished", "port": "Y"}, "does_not_end"),
        # A command that waits is given up.
        (
            "engine.window_ldx",
            {"mode": "inv", "signal": "o__ready", "cell_type": "$ne"},
            "o_stands",
        ),
        # A command that has been taken is over, whoever asks.
        ("engine.window_ldx", {"mode": "inv", "signal": "o__ready", "port": "S"}, ""),
    ],
)
def test_claims(
    netlist: Netlist, module: str, wanted: dict[str, str], broken: str, tmp_path: Path
) -> None:
    claims = Claims(CONFIG, netlist)
    found = claims.broken_by(fault(netlist, f"{CORE}.{module}", **wanted), tmp_path)
    assert (broken in found) if found and broken else (found or "") == broken


def test_a_reset_that_does_not_reach_a_register(netlist: Netlist, tmp_path: Path) -> None:
    """A queue that is not emptied offers what was in it before."""
    written = netlist.modules[QUEUE]["netnames"]["produce"]["bits"]
    cells = netlist.modules[QUEUE]["cells"]
    register = next(name for name, cell in cells.items() if cell["connections"].get("Q") == written)
    mutant = fault(netlist, QUEUE, mode="const0", port="SRST", cell=register)
    found = Claims(CONFIG, netlist).broken_by(mutant, tmp_path)
    assert found == "reset: some tells what was before it"  # r_rdy, that is
