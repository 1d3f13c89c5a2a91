"""The regression of the mutants on a core without a fault, and on one whose fault is known."""

import pytest

from lutcore.hw.contract.isa import Cause
from lutcore.sim.rtl.build import build_model
from lutcore.sim.rtl.verilog import verilog_of
from lutcore.sw.base.errors import LutcoreError
from lutcore.verif.directed.scenario import Jobs
from lutcore.verif.directed.slots import late_or_long
from lutcore.verif.kit.configurations import CONFIGURATIONS
from lutcore.verif.mutation.campaign import SMALL_CORE
from lutcore.verif.mutation.judge import SCENARIOS, Regression

#: Random programs have tests of their own, and take longest.
QUICK = [scenario for scenario in SCENARIOS if scenario.name != "programs"]


def test_a_core_without_a_fault_passes() -> None:
    model = build_model(
        verilog_of(SMALL_CORE), bus_width=SMALL_CORE.bus_width, optimise="fast", progress=False
    )
    assert Regression(model, Jobs(SMALL_CORE, 2), QUICK).learn()["cycles"] > 1_000_000


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_slots_fill_on_every_core(name: str) -> None:
    """Programs written by hand have to fit whatever the memories hold."""
    config = CONFIGURATIONS[name]
    assert {job.cause for job in late_or_long(Jobs(config, 3), 1)} == {Cause.NONE}


def test_scales_that_are_read_before_they_are_there() -> None:
    """The interlock of the scale unit is what only late scales show."""
    good = "assign has_line = "
    verilog = verilog_of(SMALL_CORE)
    lines = [line for line in verilog.splitlines() if line.lstrip().startswith(good)]
    assert len(lines) == 1
    bad = verilog.replace(lines[0], f"  {good}1'h1;")
    model = build_model(bad, bus_width=SMALL_CORE.bus_width, optimise="fast", progress=False)
    slots = [scenario for scenario in SCENARIOS if scenario.name == "slots"]
    with pytest.raises(LutcoreError, match=r"'slots' with seed 1: byte .* of RESULTS"):
        Regression(model, Jobs(SMALL_CORE, 1), slots).learn()
