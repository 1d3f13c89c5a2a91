"""Random programs: that they are what they are called, that they run, that a fault is seen."""

import random
from collections import Counter

import pytest

from lutcore.hw.contract.csr import Region, Status
from lutcore.hw.contract.isa import Cause, Opcode, Unit
from lutcore.sim.devices.registers import CoreState
from lutcore.sim.machine.legal import check_execution
from lutcore.sw.program.rules import check
from lutcore.verif.kit.configurations import CONFIGURATIONS
from lutcore.verif.programs.bench import KINDS, Tally, case_of, run_programs
from lutcore.verif.programs.case import Case
from lutcore.verif.programs.run import Host, compare, expected_of
from lutcore.verif.programs.shrink import shrunk

TINY = CONFIGURATIONS["tiny"]


def sizes_of(case: Case) -> dict:
    return {region: size for region, (_, size) in case.regions.items()}


@pytest.mark.parametrize("name", ["tiny", "ternary-g4-int16", "register-full-k2-g4"])
def test_legal_programs_are_legal(name: str) -> None:
    config = CONFIGURATIONS[name]
    for number in range(6):
        case = case_of(config, "legal", 1, number)
        assert not check(case.words, config)
        assert not check_execution(case.words, config, sizes_of(case))
        expected = expected_of(case)
        assert expected.outcomes == {(Cause.NONE, 0)}
        assert not expected.undefined


def test_legal_programs_are_odd() -> None:
    """What no compiled program has is among them."""
    seen: Counter[str] = Counter()
    for number in range(40):
        words = case_of(TINY, "legal", 2, number).words
        opcodes = [Opcode(word & 0xFF) for word in words]
        units = [Unit(word >> 8 & 3) for word in words if word & 0xFF == Opcode.LOOP]
        seen["several layers"] += opcodes.count(Opcode.LAYER) > 1
        seen["more MMA than layers"] += opcodes.count(Opcode.MMA) > opcodes.count(Opcode.LAYER)
        seen["mixed loops"] += units != sorted(units, key=units.index)
        seen["an empty nest"] += any(
            word & 0xFF == Opcode.LOOP and not word >> 13 & 0xFFFFF for word in words
        )
        seen["one token"] += any(
            word & 0xFF == Opcode.TOKEN and word >> 11 & 3 == 1 for word in words
        )
        seen["activations before their layer"] += (
            Opcode.LDX
            in opcodes[: max(i for i, opcode in enumerate(opcodes) if opcode == Opcode.LAYER)]
        )
    assert all(count >= 1 for count in seen.values()), seen


def test_programs_are_repeatable() -> None:
    for kind in KINDS:
        first, second = (case_of(TINY, kind, 3, 5) for _ in range(2))
        assert first == second
        assert (first.memory() == second.memory()).all()
    assert case_of(TINY, "legal", 3, 5) != case_of(TINY, "legal", 4, 5)


def test_illegal_programs_meet_every_cause() -> None:
    causes: Counter[Cause] = Counter()
    for number in range(90):
        for cause in {c for c, _ in expected_of(case_of(TINY, "illegal", 1, number)).outcomes}:
            causes[cause] += 1
    wanted = set(Cause) - {
        Cause.READ_ERROR, Cause.WRITE_ERROR, Cause.ABORT, Cause.TIMEOUT,
    }  # fmt: skip
    assert wanted <= set(causes), causes


@pytest.mark.parametrize("kind", KINDS)
def test_on_the_rtl(kind: str) -> None:
    tally = Tally()
    failure = run_programs(TINY, kind, 1, range(24), tally)
    assert failure is None, failure
    assert tally.programs == 24
    assert tally.causes[Cause.NONE] >= (24 if kind == "legal" else 4)


def test_what_is_wrong_is_noticed() -> None:
    """A bit of a result, a byte beside the results, another cause, silence."""
    case = case_of(TINY, "legal", 1, 0)
    expected = expected_of(case)
    host = Host(TINY, random.Random(0))
    seen = host.run(case, expected.before, expected.budget)
    assert compare(case, expected, seen, host.memory) == ""
    base, _ = case.regions[Region.RESULTS]
    start = expected.writes[0][0]
    for place, message in ((start, "result"), (base - 1 if base else -1, "outside")):
        memory = host.memory.copy()
        memory[place] ^= 1
        assert message in compare(case, expected, seen, memory)
    for word, message in (
        (CoreState.of([Status.ERROR], Cause.TOKEN, 3).word, "TOKEN at 3, expected END"),
        (1 << Status.DONE | 0x80, "STATUS is 0x00000082, expected END"),
        (1 << Status.ERROR | 0xFF00, "no cause has the number 255, expected END"),
    ):
        assert compare(case, expected, CoreState(word), host.memory).endswith(message)
    assert "no interrupt" in compare(case, expected, None, host.memory)


def test_shrinking_keeps_the_failure() -> None:
    case = case_of(TINY, "legal", 1, 1)
    small = shrunk(case, lambda other: any(word & 0xFF == Opcode.MMA for word in other.words))
    assert [word & 0xFF for word in small.words][:1] == [Opcode.MMA]
    assert len(small.words) <= 2
