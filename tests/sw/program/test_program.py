"""Program files: round trip, determinism, and every way in which a file can be wrong."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lutcore.hw.contract.config import PRESETS
from lutcore.hw.contract.csr import Region
from lutcore.sw.base.errors import ActivationError, LutcoreError
from lutcore.sw.layers.layer import QuantLayer
from lutcore.sw.program.compile import compile_layer
from lutcore.sw.program.memory import ALIGNMENT, MemoryMap, load
from lutcore.sw.program.program import Program, ProgramError
from lutcore.verif.kit.strategies import cases, configs


def make_layer() -> QuantLayer:
    rng = np.random.default_rng(1)
    return QuantLayer(
        name='blk.0 "quoted" ☃',
        kind="affine",
        bits=4,
        codes=rng.integers(0, 16, (20, 100)).astype(np.uint8),
        group_size=40,
        scales=rng.standard_normal((20, 3)).astype(np.float16),
        offsets=None,
        bias=None,
        checkpoint_bytes=1120,
    )


@pytest.fixture(scope="module")
def program() -> Program:
    return compile_layer(make_layer(), PRESETS["tiny"], 3)


@pytest.fixture(scope="module")
def content(program: Program) -> bytes:
    return program.to_bytes()


@settings(max_examples=30, deadline=None, print_blob=True)
@given(st.data())
def test_round_trip(data: st.DataObject) -> None:
    config = data.draw(configs())
    program = compile_layer(data.draw(cases(config)).layer, config, 2)
    again = Program.from_bytes(program.to_bytes())
    assert again == program
    assert again.to_bytes() == program.to_bytes()


def test_files(program: Program, tmp_path: Path) -> None:
    path = tmp_path / "layer.lutc"
    path.write_bytes(b"old")
    program.save(path)
    assert Program.load(path) == program
    assert [entry.name for entry in tmp_path.iterdir()] == ["layer.lutc"]


def test_unwritable_and_missing_files(program: Program, tmp_path: Path) -> None:
    with pytest.raises(ProgramError, match="cannot be written"):
        program.save(tmp_path / "no folder" / "layer.lutc")
    (tmp_path / "folder").mkdir()
    with pytest.raises(ProgramError, match="cannot be written"):
        program.save(tmp_path / "folder")
    assert [entry.name for entry in tmp_path.iterdir()] == ["folder"]
    with pytest.raises(ProgramError, match="cannot be read: No such file"):
        Program.load(tmp_path / "missing.lutc")


@settings(max_examples=60)
@given(st.data())
def test_every_truncation_is_found(content: bytes, data: st.DataObject) -> None:
    length = data.draw(st.integers(0, len(content) - 1))
    with pytest.raises(ProgramError, match=r"not a lutcore program|truncated"):
        Program.from_bytes(content[:length])


@settings(max_examples=60)
@given(st.data())
def test_every_changed_bit_is_found(content: bytes, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, 8 * len(content) - 1))
    changed = bytearray(content)
    changed[place // 8] ^= 1 << place % 8
    with pytest.raises(ProgramError):
        Program.from_bytes(bytes(changed))


def with_crc(content: bytearray) -> bytes:
    content[-4:] = struct.pack("<I", zlib.crc32(content[:-4]))
    return bytes(content)


@pytest.mark.parametrize(
    ("offset", "value", "message"),
    [
        (8, 2, r"file\.lutc: program format 2, but this lutcore reads 1: update lutcore"),
        (8, 0, r"program format 0.*compile the layer again"),
        (10, 9, r"instruction set 9, but this lutcore has 2: update lutcore"),
        (12, 0, r"fingerprint .*compile the layer again"),
    ],
)
def test_versions(content: bytes, offset: int, value: int, message: str) -> None:
    changed = bytearray(content)
    struct.pack_into("<H", changed, offset, value)
    with pytest.raises(ProgramError, match=message):
        Program.from_bytes(with_crc(changed), "file.lutc")


def test_longer_file(content: bytes) -> None:
    with pytest.raises(ProgramError, match="too long"):
        Program.from_bytes(content + b"\0")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b'"rows":3', b'"rows":0', "rows must be at least 1, not 0"),
        (b'"rows":3', b'"rowz":3', "missing or unknown: rows, rowz"),
        (b'"kind":"affine"', b'"kind":"afffne"', "kind must be one of affine, planes, ternary"),
        (b'"bits":4', b'"bits":3', "weight image has .* bytes, but the layer's blocks take"),
        (b'"bits":4', b'"bits":"', "program"),
        (b'"depth":2', b'"depth":0', "depth must be in 1..32, not 0"),
    ],
)
def test_wrong_contents(content: bytes, old: bytes, new: bytes, message: str) -> None:
    assert content.count(old) == 1
    with pytest.raises(ProgramError, match=message):
        Program.from_bytes(with_crc(bytearray(content.replace(old, new))))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "ternary"}, "bits must be 2 where kind is ternary"),
        ({"kind": "ternary", "bits": 2}, "ternary weights need a core with ternary = true"),
    ],
)
def test_ternary_programs_for_other_cores(
    program: Program, changes: dict[str, object], message: str
) -> None:
    values = {**program.metadata(), **changes}
    with pytest.raises(ValueError, match=message):
        Program.from_metadata(program.config, values, program.instructions, program.image)


def test_illegal_instructions(program: Program, content: bytes) -> None:
    first = program.instructions[0].to_bytes(16, "little")
    changed = content.replace(first, bytes(16), 1)
    with pytest.raises(ProgramError, match=r"instruction 0: unknown opcode 0x00 \(OPCODE\)"):
        Program.from_bytes(with_crc(bytearray(changed)))


@pytest.mark.parametrize(
    ("q", "scale", "message"),
    [
        (np.zeros((3, 100), np.int16), np.ones(3, np.float32), "takes int8 activations"),
        (np.zeros((2, 100), np.int8), np.ones(2, np.float32), r"\[3, 100\], not int8 \[2, 100\]"),
        (np.zeros((3, 100), np.int8), np.ones(3), "must be float32"),
        (np.zeros((3, 100), np.int8), np.ones(2, np.float32), r"float32 \[3\]"),
        (np.zeros((3, 100), np.int8), np.zeros(3, np.float32), "positive and finite, not 0.0"),
        (np.zeros((3, 100), np.int8), np.full(3, np.nan, np.float32), "not nan"),
    ],
)
def test_activations_of_another_kind(
    program: Program, q: np.ndarray, scale: np.ndarray, message: str
) -> None:
    with pytest.raises(ActivationError, match=message):
        program.pack_x(q, scale)


def test_memory_map(program: Program) -> None:
    layout = MemoryMap.for_program(program, base=128)
    end = 128
    for base, size in layout.regions.values():
        assert base == end
        assert size % ALIGNMENT == 0
        end = base + size
    assert layout.size == end
    memory = layout.allocate()
    x_image = program.pack_x(np.ones((3, 100), np.int8), np.ones(3, np.float32))
    load(memory, layout, program, x_image)
    for region, expected in (
        (Region.PROGRAM, program.instruction_bytes),
        (Region.WEIGHTS, program.image),
        (Region.ACTIVATIONS, x_image),
    ):
        base, _ = layout.regions[region]
        assert memory[base : base + len(expected)].tobytes() == expected
    assert len(x_image) == program.x_bytes
    base, _ = layout.regions[Region.RESULTS]
    values = np.arange(3 * 32, dtype=np.float32).reshape(3, 32)
    memory[base : base + values.nbytes] = values.view(np.uint8).ravel()
    assert program.unpack_y(memory[base:][: program.y_bytes]).tolist() == values[:, :20].tolist()


def test_memory_map_refuses_an_unaligned_base(program: Program) -> None:
    with pytest.raises(ValueError, match="multiples of 64, not at 32"):
        MemoryMap.for_program(program, base=32)


def test_errors_are_user_errors() -> None:
    assert issubclass(ProgramError, LutcoreError)
