"""Resets at chosen moments of a program."""

from collections.abc import Callable

from cocotb.triggers import RisingEdge

from lutcore.hw.contract.csr import Region
from lutcore.hw.contract.isa import Cause
from lutcore.verif.core.system import CoreBench
from lutcore.verif.kit import env

__all__ = ["reset_at"]

#: Cycles after which a moment has been missed.
_PATIENCE = 20_000


async def reset_at(bench: CoreBench, kind: str, moment: str) -> bool:
    """Start what is placed, wait for a moment, reset, and check what the core says.

    Parameters
    ----------
    bench
        With a monitor.
    kind
        ``"soft"`` (by CONTROL) or ``"aresetn"``.
    moment
        One of ``lutcore.verif.kit.points.MOMENTS``.

    Returns
    -------
    bool
        Whether the moment came before the end of the program.
    """
    reached = True
    if moment != "idle":
        await bench.start()
        reached = await _until(bench, _moments(bench)[moment])
    if kind == "soft":
        await _soft(bench, running=moment != "idle")
    else:
        await bench.reset(bench.random.randint(1, 5))
        env.expect("irq after aresetn", int(bench.dut.irq.value), 0)
    bench.check_written()
    state = await bench.state()
    env.expect("status bits after a reset", sorted(state.status), [])
    return reached


async def _soft(bench: CoreBench, *, running: bool) -> None:
    done = bool(int(bench.dut.irq.value))
    await bench.soft_reset()
    if running and not done:
        state = await bench.wait()
        # The program may have ended in the cycles that the write took.
        if state.good:
            await bench.soft_reset()
        elif state.cause != Cause.ABORT or state.status:
            raise env.Mismatch(
                f"cycle {env.cycle_of()}: after a soft reset the core says {state}, expected "
                "ABORT and no status bits"
            )
        bench.check_quiet()
    elif done:
        await bench.write_register("IRQ", 1)
    await bench.soft_reset()


def _moments(bench: CoreBench) -> dict[str, Callable[[], bool]]:
    monitor, memory = bench.monitor, bench.memory
    if monitor is None:
        raise ValueError("a reset needs a bench with a monitor")
    program = bench.layout.regions[Region.PROGRAM]
    results = bench.program.rows * bench.program.n * 4

    def reading() -> bool:
        return monitor.outstanding_reads > 0

    def fetching() -> bool:
        return reading() and program[0] <= monitor.last_read < program[0] + program[1]

    return {
        "fetch": fetching,
        "reads outstanding": lambda: reading() and not fetching(),
        "writes outstanding": lambda: monitor.outstanding_writes > 0,
        "late": lambda: 2 * int(memory.touched.sum()) >= results,
    }


async def _until(bench: CoreBench, moment: Callable[[], bool]) -> bool:
    edge = RisingEdge(bench.dut.aclk)
    for _ in range(_PATIENCE):
        if moment():
            return True
        if int(bench.dut.irq.value):
            return False
        await edge
    return False
