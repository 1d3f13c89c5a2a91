"""The loop engine against the definition of loops, and the definition against plain loops."""

from typing import Any

import pytest
from amaranth.sim import Simulator
from hypothesis import given, settings
from hypothesis import strategies as st

from lutcore.hw.contract.isa import LOOP_LEVELS, Axis
from lutcore.hw.contract.loops import ADDRESS_BITS, Body, Loop, walk
from lutcore.hw.control.nest import Nest

FIELDS = ("n", "k", "r", "address", "index", "inner", "inner_r")
FLAGS = ("n_last", "r_last", "k_first", "k_last")
CYCLES_PER_BODY = 3 + LOOP_LEVELS


def end_of(body: Body) -> int:
    """Where the bodies of these tests end: depends on everything that could be mixed up."""
    return body.address + 7 * body.n + 3 * body.k + body.r


def expected(loops: list[Loop], base: int) -> list[dict[str, int]]:
    return [
        {name: int(getattr(body, name)) for name in FIELDS + FLAGS}
        # A nest without loops has no axis to tell of.
        | ({} if body.inner else {"inner_r": None})
        | {
            name: sum(bit << cut for cut, bit in enumerate(getattr(body, name)))
            for name in ("first", "last")
        }
        for body in walk(loops, base, end=end_of)
    ]


def run(
    nests: list[tuple[list[Loop], int]],
    delays: list[int],
    address_width: int = ADDRESS_BITS,
    **others: Any,
):
    """Run nests one after the other; returns the bodies of each and the slowest turn-around."""
    dut = Nest(address_width=address_width, **others)
    results: list[list[dict[str, int]]] = []
    slowest = 0

    async def consumer(ctx):
        nonlocal slowest
        turn = 0
        for loops, base in nests:
            for loop in loops:
                ctx.set(dut.push.valid, 1)
                payload = {name: getattr(loop, name) for name in ("axis", "auto", "total", "step")}
                ctx.set(dut.push.payload, payload | {"stride": loop.stride})
                assert ctx.get(dut.push.ready)
                await ctx.tick()
            ctx.set(dut.push.valid, 0)
            ctx.set(dut.start, 1)
            ctx.set(dut.base, base)
            await ctx.tick()
            ctx.set(dut.start, 0)
            bodies: list[dict[str, int]] = []
            results.append(bodies)
            waited = 0
            while not ctx.get(dut.done):
                assert ctx.get(dut.busy)
                assert not ctx.get(dut.push.ready)
                waited += 1
                assert waited <= CYCLES_PER_BODY, "the nest hangs"
                if not ctx.get(dut.o.valid):
                    await ctx.tick()
                    continue
                slowest = max(slowest, waited)
                waited = 0
                work = delays[turn % len(delays)]
                turn += 1
                seen = [snapshot(ctx, dut)]
                for _ in range(work):
                    await ctx.tick()
                    assert ctx.get(dut.o.valid)
                    seen.append(snapshot(ctx, dut))
                assert all(item == seen[0] for item in seen), "the payload moved"
                bodies.append(seen[0])
                ctx.set(dut.o.ready, 1)
                if address_width:
                    body = seen[0]
                    end = body["address"] + 7 * body["n"] + 3 * body["k"] + body["r"]
                    ctx.set(dut.next_address, end & (1 << dut.address_width) - 1)
                await ctx.tick()
                ctx.set(dut.o.ready, 0)
            await ctx.tick()
            assert not ctx.get(dut.busy)
            assert not ctx.get(dut.done)

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(consumer)
    simulator.run()
    return results, slowest


def snapshot(ctx, dut: Nest) -> dict[str, int]:
    payload = ctx.get(dut.o.payload)
    seen = {name: int(payload[name]) for name in FIELDS + FLAGS + ("first", "last")}
    return seen if seen["inner"] else seen | {"inner_r": None}


def short(loops: list[Loop]) -> bool:
    """Keeps a nest short enough for the slow simulator."""
    count, sizes = 1, {}
    for loop in loops:
        size = sizes.get(loop.axis, loop.total)
        count *= -(-size // loop.step)
        sizes[loop.axis] = min(size, loop.step)
    return count <= 60


LOOPS = st.lists(
    st.builds(
        Loop,
        axis=st.sampled_from(Axis),
        total=st.integers(0, 40) | st.just(2**20 - 1),
        step=st.integers(1, 17) | st.sampled_from([2**19, 2**20 - 1]),
        stride=st.integers(-(2**39), 2**39 - 1) | st.integers(-64, 64),
        auto=st.booleans(),
    ),
    max_size=LOOP_LEVELS,
).filter(short)
BASES = st.integers(0, 2**ADDRESS_BITS - 1)


@settings(max_examples=60, deadline=None, print_blob=True)
@given(
    st.lists(st.tuples(LOOPS, BASES), min_size=1, max_size=3),
    st.lists(st.integers(0, 15), min_size=1, max_size=7)
    | st.lists(st.integers(1, 4), min_size=1, max_size=7),
)
def test_bodies_are_those_of_walk(nests, delays):
    results, _ = run(nests, delays, prompt=0 in delays)
    assert results == [expected(loops, base) for loops, base in nests]


STRIDES = st.sampled_from([0, 64, -64, 250, -250, 256, -256, 2**8 + 1, 2**39 - 1, -(2**39)])


@settings(max_examples=60, deadline=None, print_blob=True)
@given(
    st.lists(
        st.builds(
            Loop,
            axis=st.sampled_from(Axis),
            total=st.integers(0, 5),
            step=st.integers(1, 3),
            stride=STRIDES | st.integers(-(2**39), 2**39 - 1) | st.integers(-64, 64),
            auto=st.booleans(),
        ),
        max_size=LOOP_LEVELS,
    ).filter(short),
    st.integers(0, 255) | st.integers(0, 300) | BASES,
)
def test_addresses_of_a_region(loops, base):
    """Up to the first body beyond the region; that one is known as such."""
    results, _ = run([(loops, base)], [1], region_bits=8, prompt=False)
    for body, wanted in zip(results[0], expected(loops, base), strict=False):
        if wanted["address"] >> 8:
            assert body["address"] >> 8
            break
        assert body == wanted
    else:
        assert len(results[0]) == len(expected(loops, base))


def test_aligned_addresses() -> None:
    """Until the last body of a nest all are multiples of 8; that one may lie anywhere."""
    loops = [Loop(Axis.N, 3, 1, 1 << 20), Loop(Axis.R, 4, 2, 40), Loop(Axis.K, 5, 2, -16)]
    odd = [Loop(Axis.N, 2, 1, 13)]
    nests = [(loops, 4096), (odd, 64), (loops, 8)]
    results, _ = run(nests, [0, 1, 3], aligned=3)
    assert results == [expected(*nest) for nest in nests]
    assert [body["address"] for body in results[1]] == [64, 77]


def test_narrow_addresses_wrap():
    loops = [Loop(Axis.N, 5, 1, stride=100)]
    results, _ = run([(loops, 200)], [0], address_width=8)
    assert [body["address"] for body in results[0]] == [200, 44, 144, 244, 88]


@pytest.mark.parametrize("delay", [0, 1, 2, 3])
def test_deepest_nest_and_its_pace(delay):
    loops = [
        Loop(Axis.N, 5, 3, stride=1000),
        Loop(Axis.K, 20, 16, auto=True),
        Loop(Axis.R, 3, 2, stride=-7),
        Loop(Axis.K, 0, 9, stride=11),
        Loop(Axis.N, 0, 2, auto=True),
    ]
    results, slowest = run([(loops, 12)], [delay])
    assert results == [expected(loops, 12)]
    assert slowest <= 2 + LOOP_LEVELS


def test_no_loops_and_no_iterations():
    nests = [
        ([], 77),
        ([Loop(Axis.K, 3, 2), Loop(Axis.R, 0, 1)], 0),
        ([Loop(Axis.R, 0, 1), Loop(Axis.R, 5, 1)], 0),
        ([Loop(Axis.R, 2, 2)], 9),
    ]
    results, _ = run(nests, [0])
    assert [len(bodies) for bodies in results] == [1, 0, 0, 1]
    assert [results[0][0][name] for name in ("n", "k", "r", "address")] == [1, 1, 1, 77]
    assert results[0][0]["first"] == results[0][0]["last"] == 0b111111


def test_walk_against_python_loops():
    loops = [Loop(Axis.N, 7, 4, stride=100), Loop(Axis.K, 10, 4, stride=10), Loop(Axis.N, 99, 3)]
    seen = [(body.n, body.k, body.address) for body in walk(loops, 1000)]
    wanted = []
    for n in range(0, 7, 4):
        for k in range(0, 10, 4):
            outer = min(4, 7 - n)
            for inner in range(0, outer, 3):
                size = min(3, outer - inner), min(4, 10 - k)
                wanted.append((*size, 1000 + 100 * (n // 4) + 10 * (k // 4)))
    assert seen == wanted


def test_walk_flags_and_index():
    loops = [Loop(Axis.R, 2, 1), Loop(Axis.K, 2, 1), Loop(Axis.R, 1, 1)]
    bodies = list(walk(loops))
    assert [body.first for body in bodies] == [
        (True, True, True, True, True, True),
        (False, False, True, True, True, True),
        (False, True, True, True, True, True),
        (False, False, True, True, True, True),
    ]
    assert [body.last[1] for body in bodies] == [False, True, False, True]
    assert [body.r_last for body in bodies] == [False, False, True, True]
    assert [(body.k_first, body.k_last) for body in bodies] == [(True, False), (False, True)] * 2
    assert [body.index for body in walk([Loop(Axis.R, 5, 2)])] == [0, 1, 2]
    assert all(body.inner_r and body.inner == 3 for body in bodies)


@pytest.mark.parametrize(
    ("loops", "message"),
    [
        ([Loop(Axis.N, 1, 1)] * 6, "at most 5 loops, not 6"),
        ([Loop(Axis.N, 1, 0)], "step of loop 0 must be at least 1, not 0"),
        ([Loop(Axis.N, 1, 1, auto=True)], "loop 0 is auto: pass end="),
    ],
)
def test_walk_refuses(loops, message):
    with pytest.raises(ValueError, match=message):
        next(walk(loops))


def test_width_is_checked():
    with pytest.raises(TypeError, match=r"Address width must be in 1\.\.40, not 0"):
        Nest(address_width=0)
