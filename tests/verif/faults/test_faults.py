"""Faults around the core: a few of the bench's scenarios on Icarus, and damaged program files."""

import random
from pathlib import Path

import numpy as np
import pytest

from lutcore.hw.contract.config import load_config
from lutcore.hw.contract.isa import Cause
from lutcore.sim.rtl.verilog import verilog_of
from lutcore.sw.layers.layer import QuantLayer
from lutcore.sw.program.compile import compile_layer
from lutcore.sw.program.program import Program, ProgramError
from lutcore.verif.faults.programs import BAD_PROGRAMS
from lutcore.verif.kit.env import Settings
from lutcore.verif.regression.jobs import Job
from lutcore.verif.regression.runner import JobResult, run_jobs


def run(folder: Path, test: str, rtl: Path | None = None) -> JobResult:
    """Run tests of the bench ``faults``, given as an alternative of names."""
    settings = Settings(load_config("tiny"), 1, "faults", "icarus", 1, folder)
    (result,) = run_jobs([Job(settings, "tiny", test=f"({test})", rtl=rtl)])
    return result


def test_scenarios_on_icarus(tmp_path: Path) -> None:
    """The core passes; the same core that does not look at the responses to its writes fails."""
    good = run(tmp_path / "good", "another_configuration|write_errors")
    assert [outcome.failure for outcome in good.outcomes if not outcome.skipped] == [None, None]

    verilog = verilog_of(load_config("tiny"))
    connected = ".bus__bresp(m_axi_bresp)"
    assert verilog.count(connected) == 1
    broken = tmp_path / "broken.v"
    broken.write_text(verilog.replace(connected, ".bus__bresp(2'b00)"))
    (failure,) = run(tmp_path / "bad", "write_errors", broken).failures
    assert failure.name == "write_errors"
    assert "cause is NONE, expected WRITE_ERROR" in (failure.failure or "")
    assert "cycle " in (failure.failure or "")


def test_every_cause_of_a_program_has_a_scenario() -> None:
    of_the_bus = {Cause.READ_ERROR, Cause.WRITE_ERROR, Cause.TIMEOUT}
    of_the_host = {Cause.BUDGET, Cause.ABORT}
    of_programs = set(Cause) - {Cause.NONE} - of_the_bus - of_the_host
    assert {bad.cause for bad in BAD_PROGRAMS.values()} == of_programs


@pytest.fixture(scope="module")
def file() -> bytes:
    """A program file."""
    rng = np.random.default_rng(0)
    layer = QuantLayer(
        name="small",
        kind="affine",
        bits=2,
        codes=rng.integers(0, 4, (9, 16)).astype(np.uint8),
        group_size=8,
        scales=rng.normal(size=(9, 2)).astype(np.float16),
        offsets=None,
        bias=None,
        checkpoint_bytes=1,
    )
    content = compile_layer(layer, load_config("tiny"), 1).to_bytes()
    assert Program.from_bytes(content).to_bytes() == content
    return content


def test_truncated_files_are_refused(file: bytes) -> None:
    for length in range(len(file)):
        with pytest.raises(ProgramError, match=r"truncated|not a lutcore program"):
            Program.from_bytes(file[:length])
    with pytest.raises(ProgramError, match="too long"):
        Program.from_bytes(file + b"\0")


def test_flipped_bits_in_files_are_refused(file: bytes) -> None:
    """Any one bit, and any few."""
    source = random.Random(0)
    several = [source.sample(range(8 * len(file)), source.randint(2, 5)) for _ in range(500)]
    for bits in [*([bit] for bit in range(8 * len(file))), *several]:
        damaged = bytearray(file)
        for bit in bits:
            damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ProgramError):
            Program.from_bytes(bytes(damaged))
