"""Each device alone: its memory, its registers, its interrupt; and the words that go over them."""

import numpy as np
import pytest

from lutcore.hw.contract.config import PRESETS
from lutcore.hw.contract.csr import CSRS, ID_VALUE, Control, Region, Status
from lutcore.hw.contract.isa import Cause
from lutcore.sim.devices.choice import DEVICES, device_for
from lutcore.sim.devices.device import Device
from lutcore.sim.devices.driver import Driver
from lutcore.sim.devices.registers import RESET, START, CoreState, Setup
from lutcore.sw.base.errors import LutcoreError
from lutcore.sw.layers.layer import QuantLayer
from lutcore.sw.program.compile import compile_layer
from lutcore.sw.program.memory import MemoryMap, load
from lutcore.sw.program.program import Program

TINY = PRESETS["tiny"]


@pytest.fixture(scope="module")
def program() -> Program:
    layer = QuantLayer(
        name="layer",
        kind="affine",
        bits=1,
        codes=np.zeros((8, 8), np.uint8),
        group_size=8,
        scales=np.ones((8, 1), np.float16),
        offsets=None,
        bias=np.full(8, 2.5, np.float32),
        checkpoint_bytes=10,
    )
    return compile_layer(layer, TINY, 1)


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest, program: Program) -> Device:
    return device_for(request.param, program)


def place(device: Device, program: Program) -> MemoryMap:
    layout = MemoryMap.for_program(program)
    content = layout.allocate()
    load(
        content, layout, program, program.pack_x(np.zeros((1, 8), np.int8), np.ones(1, np.float32))
    )
    device.write_memory(0, content.tobytes())
    return layout


def test_memory(device: Device) -> None:
    size = len(device.memory)
    device.write_memory(size - 3, b"abc")
    assert device.read_memory(size - 4, 4) == b"\0abc"
    for address, count in ((size - 2, 3), (-1, 1), (size + 1, 0)):
        with pytest.raises(LutcoreError, match=f"{count} bytes at .*which has {size} bytes"):
            device.read_memory(address, count)
        with pytest.raises(LutcoreError, match="are not within the device's memory"):
            device.write_memory(address, bytes(count))


def test_registers(device: Device) -> None:
    driver = Driver(device)
    assert driver.read("ID") == ID_VALUE
    assert driver.read_wide("FINGERPRINT") == TINY.fingerprint
    assert driver.state() == CoreState.of([])
    driver.write("EXPECT_HI", 0x1234_5678)
    driver.write("EXPECT_LO", 0x9ABC_DEF0)
    assert driver.read_wide("EXPECT") == 0x1234_5678_9ABC_DEF0
    for name in ("ID", "STATUS", "FINGERPRINT_LO"):
        with pytest.raises(LutcoreError, match="register"):
            driver.write(name, 1)
    with pytest.raises(LutcoreError, match="register 0xffc"):
        device.read_register(0xFFC)
    device.reset()
    assert driver.read_wide("EXPECT") == 0
    assert driver.read("ID") == ID_VALUE


def test_the_interrupt(device: Device, program: Program) -> None:
    """Enabled or not, before a start, after an end, acknowledged, after a soft reset."""
    driver = Driver(device)
    layout = place(device, program)
    assert not device.wait(100)
    driver.set_up(Setup.of(program, layout))
    driver.write("CONTROL", 1 << Control.START)
    assert not device.wait(5_000)
    assert driver.read("IRQ") == 1
    assert driver.state().good
    driver.write("CONTROL", 1 << Control.IRQ_ENABLE)
    assert device.wait(100)
    driver.write("IRQ", 1)
    assert not device.wait(100)
    assert driver.read("IRQ") == 0
    driver.write("CONTROL", RESET)
    assert CoreState(driver.read("STATUS")) == CoreState.of([])
    driver.start(Setup.of(program, layout))
    assert device.wait(5_000)
    base, _ = layout.regions[Region.RESULTS]
    assert device.read_memory(base, 32) == np.full(8, 2.5, np.float32).tobytes()


def test_a_program_for_another_core_stops(device: Device, program: Program) -> None:
    driver = Driver(device)
    driver.start(Setup.of(program, place(device, program), expect=TINY.fingerprint ^ 1))
    assert device.wait(5_000)
    state = driver.state()
    assert (state.status, state.cause) == ({Status.ERROR}, Cause.FINGERPRINT)
    assert not state.good


@pytest.mark.parametrize("name", ["golden", "iss"])
def test_what_a_model_does_not_have(name: str, program: Program) -> None:
    device = device_for(name, program)
    driver, layout = Driver(device), place(device, program)
    with pytest.raises(LutcoreError, match="without a clock has no register CYCLES_LO"):
        driver.read("CYCLES_LO")
    setup = Setup.of(program, layout, sizes={Region.WEIGHTS: 1 << 20})
    with pytest.raises(LutcoreError, match="the region of weights, 1048576 bytes at "):
        driver.start(setup)


def test_a_setup_is_the_programs_but_for_what_is_given(program: Program) -> None:
    layout = MemoryMap.for_program(program, 0x12_3456_7880)
    base, size = layout.regions[Region.RESULTS]
    registers = Setup.of(program, layout, budget=3 << 32 | 7).registers()
    assert registers["IRQ"] == 1 and "CONTROL" not in registers
    settings = [csr.name for csr in CSRS.values() if csr.access == "rw" and csr.name != "CONTROL"]
    assert sorted(registers) == sorted([*settings, "IRQ"])
    assert registers["PROGRAM_LENGTH"] == len(program.instructions)
    assert registers["RESULTS_BASE_HI"] << 32 | registers["RESULTS_BASE_LO"] == base
    assert registers["RESULTS_SIZE"] == size
    assert registers["EXPECT_HI"] << 32 | registers["EXPECT_LO"] == TINY.fingerprint
    assert (registers["BUDGET_HI"], registers["BUDGET_LO"]) == (3, 7)
    changed = Setup.of(
        program, layout, bases={Region.RESULTS: 64}, sizes={Region.PROGRAM: 5}, length=0, expect=0
    )
    assert changed.regions[Region.RESULTS] == (64, size)
    assert changed.regions[Region.PROGRAM][1] == 5
    assert (changed.length, changed.expect, changed.budget) == (0, 0, 0)


def test_states_in_words() -> None:
    state = CoreState.of([Status.ERROR, Status.HUNG], Cause.TIMEOUT, 300)
    assert str(state) == "ERROR, HUNG, cause TIMEOUT, instruction 300"
    assert (state.stop, state.instruction) == ((Cause.TIMEOUT, 300), 300)
    assert str(CoreState(0, 12)) == "no status bits, cause NONE, instruction 0, after 12 cycles"
    assert str(CoreState(0xC800)) == "no status bits, cause 200, instruction 0"
    assert CoreState.of([Status.DONE]).good
    assert not CoreState.of([Status.DONE, Status.BUSY]).good
    assert START != RESET
