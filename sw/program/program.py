"""A compiled layer, and the file that holds it.

A program file is, all numbers little-endian::

    magic "LUTCPROG" | format version, ISA version (16 bits each) | fingerprint (64)
    lengths in bytes of the four sections (64 each)
    configuration (JSON) | metadata (JSON) | instructions (16 bytes each) | weight image
    CRC32 of all that (32)
"""

import json
import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np

from lutcore.hw.contract.config import CoreConfig, ceil_div
from lutcore.hw.contract.isa import INSTRUCTION_BITS, ISA_VERSION, words_to_bytes
from lutcore.sw.base.errors import ActivationError, LutcoreError
from lutcore.sw.layers.layer import TERNARY_BITS, Kind
from lutcore.sw.program.blocks import BlockFormat
from lutcore.sw.program.pack import pack_activations
from lutcore.sw.program.rules import check
from lutcore.sw.program.tiling import Tiling

__all__ = ["FORMAT_VERSION", "Program", "ProgramError", "row_stride"]

FORMAT_VERSION = 1
_MAGIC = b"LUTCPROG"
_HEADER = struct.Struct("<8sHHQ4Q")
_CRC = struct.Struct("<I")
_INSTRUCTION_BYTES = INSTRUCTION_BITS // 8
#: Rows of results start at multiples of this.
_ROW_ALIGNMENT = 64


class ProgramError(LutcoreError, ValueError):
    """A program file that cannot be read, or a program that contradicts itself."""


@dataclass(frozen=True)
class Program:
    """A layer compiled for one configuration and one number of rows.

    Attributes
    ----------
    tiling
        Blocks of the layer; holds the configuration, the shape and the format of the weights.
    name
        The layer's name.
    rows
        Rows of activations.
    bias
        Whether the layer has a bias.
    checkpoint_bytes
        Bytes of the layer in the checkpoint.
    instructions
        The program, 128 bits each.
    image
        Weight image; the same for any number of rows.

    Raises
    ------
    ProgramError
        If instructions are illegal, or the image has another size than the tiling gives.
    """

    tiling: Tiling
    name: str
    rows: int
    bias: bool
    checkpoint_bytes: int
    instructions: tuple[int, ...]
    image: bytes

    def __post_init__(self) -> None:
        problems = check(self.instructions, self.config)
        if problems:
            raise ProgramError(f"Program {self.name!r}: {problems[0]}")
        size = self.tiling.image_bytes(bias=self.bias)
        if len(self.image) != size:
            raise ProgramError(
                f"Program {self.name!r}: its weight image has {len(self.image)} bytes, but the "
                f"layer's blocks take {size}: compile it again"
            )

    @property
    def config(self) -> CoreConfig:
        """The core that the program is for."""
        return self.tiling.format.config

    @property
    def fingerprint(self) -> int:
        """Fingerprint of that core."""
        return self.config.fingerprint

    @property
    def n(self) -> int:
        """Output channels."""
        return self.tiling.n

    @property
    def k(self) -> int:
        """Columns."""
        return self.tiling.k

    @property
    def group_size(self) -> int:
        """Columns that share a scale."""
        return self.tiling.group_columns

    @property
    def bits(self) -> int:
        """Bits of a weight, as `QuantLayer` counts them."""
        return TERNARY_BITS if self.kind == "ternary" else self.tiling.format.planes

    @property
    def kind(self) -> Kind:
        """What the core computes, by the kinds of `QuantLayer`.

        A ternary layer that was compiled for a core without tables for it has become ``planes``.
        """
        if self.tiling.format.ternary:
            return "ternary"
        return "planes" if self.tiling.format.per_plane else "affine"

    @property
    def row_tiles(self) -> int:
        """Row tiles."""
        return ceil_div(self.rows, self.config.rows)

    @property
    def row_stride(self) -> int:
        """Bytes from one row of results to the next."""
        return row_stride(self.n)

    @property
    def x_bytes(self) -> int:
        """Bytes of the activation image."""
        words = self.row_tiles * self.tiling.row_tile_memory_words()
        return words * self.config.x_memory_bytes

    @property
    def y_bytes(self) -> int:
        """Bytes of the results."""
        return self.rows * self.row_stride

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the layer, by weight bits: rows * N * K * bits.

        Where the core looks ternary weights up as such, each is one: rows * N * K.
        """
        return self.rows * self.n * self.k * self.tiling.format.planes

    @property
    def peak(self) -> int:
        """The most of `macs` that the core does in a cycle: rows * lanes * columns of a step."""
        return self.config.rows * self.config.lanes * self.tiling.format.step_columns

    @property
    def instruction_bytes(self) -> bytes:
        """The program as the core fetches it."""
        return words_to_bytes(self.instructions)

    def pack_x(self, q: np.ndarray, row_scale: np.ndarray) -> bytes:
        """The activation image.

        Parameters
        ----------
        q
            int8 or int16 [rows, K], of the core's activation type.
        row_scale
            float32 [rows], positive and finite.

        Raises
        ------
        ActivationError
            If type, shape or a row scale is another.
        """
        wanted = np.dtype(self.config.activation)
        if q.dtype != wanted or q.shape != (self.rows, self.k):
            raise ActivationError(
                f"Program {self.name!r} takes {wanted} activations [{self.rows}, {self.k}], "
                f"not {q.dtype} {list(q.shape)}"
            )
        if row_scale.dtype != np.float32 or row_scale.shape != (self.rows,):
            raise ActivationError(
                f"Row scales must be float32 [{self.rows}], "
                f"not {row_scale.dtype} {list(row_scale.shape)}"
            )
        bad = ~(np.isfinite(row_scale) & (row_scale > 0))
        if bad.any():
            raise ActivationError(
                f"Row scales must be positive and finite, not {row_scale[bad][0]}; "
                "give a row of zeros the scale 1"
            )
        return pack_activations(q, row_scale, self.tiling)

    def unpack_y(self, region: bytes | np.ndarray) -> np.ndarray:
        """Results float32 [rows, N] from the bytes of the result region."""
        rows = np.frombuffer(region, "<f4", self.y_bytes // 4).reshape(self.rows, -1)
        return rows[:, : self.n].astype(np.float32)

    # File ------------------------------------------------------------------------------------

    def to_bytes(self) -> bytes:
        """The file; equal programs give equal bytes."""
        sections = (
            _json_bytes(self.config.as_dict()),
            _json_bytes(self.metadata()),
            self.instruction_bytes,
            self.image,
        )
        lengths = (len(section) for section in sections)
        header = _HEADER.pack(_MAGIC, FORMAT_VERSION, ISA_VERSION, self.fingerprint, *lengths)
        content = b"".join((header, *sections))
        return content + _CRC.pack(zlib.crc32(content))

    def save(self, path: str | Path) -> None:
        """Write the file, in one piece or not at all."""
        path = Path(path)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            temporary.write_bytes(self.to_bytes())
            os.replace(temporary, path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise ProgramError(f"{path}: cannot be written: {error.strerror}") from None

    @classmethod
    def from_bytes(cls, content: bytes, source: str = "program") -> "Program":
        """Read a file's content.

        Parameters
        ----------
        content
            All bytes of the file.
        source
            Its name, for messages.

        Raises
        ------
        ProgramError
            If it is no program, is damaged, or is for another version.
        """
        if content[: len(_MAGIC)] != _MAGIC:
            raise ProgramError(
                f"{source}: not a lutcore program (no {_MAGIC.decode()} at its start)"
            )
        if len(content) < _HEADER.size + _CRC.size:
            raise ProgramError(f"{source}: truncated: {len(content)} bytes are less than a header")
        _, version, isa, fingerprint, *lengths = _HEADER.unpack_from(content)
        if version != FORMAT_VERSION:
            raise ProgramError(
                f"{source}: program format {version}, but this lutcore reads {FORMAT_VERSION}: "
                + _which_to_update(version > FORMAT_VERSION)
            )
        if isa != ISA_VERSION:
            raise ProgramError(
                f"{source}: instruction set {isa}, but this lutcore has {ISA_VERSION}: "
                + _which_to_update(isa > ISA_VERSION)
            )
        size = _HEADER.size + sum(lengths) + _CRC.size
        if len(content) != size:
            what = "truncated" if len(content) < size else "too long"
            raise ProgramError(f"{source}: {what}: {len(content)} bytes instead of {size}")
        (crc,) = _CRC.unpack_from(content, size - _CRC.size)
        if crc != zlib.crc32(content[: -_CRC.size]):
            raise ProgramError(f"{source}: damaged: its CRC32 does not match; make it again")

        sections, start = [], _HEADER.size
        for length in lengths:
            sections.append(content[start : start + length])
            start += length
        config_json, metadata_json, code, image = sections
        try:
            config = CoreConfig.from_dict(json.loads(config_json))
            if config.fingerprint != fingerprint:
                raise ProgramError(
                    f"{source}: fingerprint {fingerprint:#018x}, but its configuration has "
                    f"{config.fingerprint:#018x}: compile the layer again"
                )
            if len(code) % _INSTRUCTION_BYTES:
                raise ProgramError(f"{source}: {len(code)} bytes are no whole instructions")
            words = tuple(
                int.from_bytes(code[i : i + _INSTRUCTION_BYTES], "little")
                for i in range(0, len(code), _INSTRUCTION_BYTES)
            )
            return cls.from_metadata(config, json.loads(metadata_json), words, image)
        except ProgramError:
            raise
        except (ValueError, TypeError) as error:
            raise ProgramError(f"{source}: {error}") from None

    @classmethod
    def load(cls, path: str | Path) -> "Program":
        """Read a file; see `from_bytes`."""
        try:
            content = Path(path).read_bytes()
        except OSError as error:
            raise ProgramError(f"{path}: cannot be read: {error.strerror}") from None
        return cls.from_bytes(content, str(path))

    def metadata(self) -> dict[str, Any]:
        """Everything but configuration, instructions and image, as plain values."""
        form = self.tiling.format
        return {
            "name": self.name,
            "rows": self.rows,
            "n": self.n,
            "k": self.k,
            "kind": self.kind,
            "bits": self.bits,
            "group_size": self.group_size,
            "offset": form.offset,
            "wide": form.wide,
            "bias": self.bias,
            "tiles": self.tiling.tiles,
            "chunk": self.tiling.chunk,
            "checkpoint_bytes": self.checkpoint_bytes,
        }

    @classmethod
    def from_metadata(
        cls, config: CoreConfig, values: dict[str, Any], instructions: tuple[int, ...], image: bytes
    ) -> "Program":
        """The inverse of `metadata`; refuses missing, unknown and impossible values."""
        _check_metadata(values)
        form = BlockFormat.for_layer(
            config, **{key: values[key] for key in ("kind", "bits", "offset", "wide", "group_size")}
        )
        tiling = Tiling(
            form,
            n=values["n"],
            k=values["k"],
            group_columns=values["group_size"],
            tiles=values["tiles"],
            chunk=values["chunk"],
        )
        return cls(
            tiling=tiling,
            name=values["name"],
            rows=values["rows"],
            bias=values["bias"],
            checkpoint_bytes=values["checkpoint_bytes"],
            instructions=instructions,
            image=image,
        )


def row_stride(n: int) -> int:
    """Bytes from one row of n results to the next."""
    return ceil_div(4 * n, _ROW_ALIGNMENT) * _ROW_ALIGNMENT


_METADATA: dict[str, type] = {
    "name": str,
    "rows": int,
    "n": int,
    "k": int,
    "kind": str,
    "bits": int,
    "group_size": int,
    "offset": bool,
    "wide": bool,
    "bias": bool,
    "tiles": int,
    "chunk": int,
    "checkpoint_bytes": int,
}


def _check_metadata(values: dict[str, Any]) -> None:
    odd = sorted(set(values) ^ set(_METADATA))
    if odd:
        raise ProgramError(f"program values missing or unknown: {', '.join(odd)}")
    for key, kind in _METADATA.items():
        value = values[key]
        if type(value) is not kind:
            raise ProgramError(f"{key} must be of type {kind.__name__}, not {value!r}")
        if kind is int and value < 1:
            raise ProgramError(f"{key} must be at least 1, not {value}")
    if values["kind"] not in get_args(Kind):
        kinds = ", ".join(get_args(Kind))
        raise ProgramError(f"kind must be one of {kinds}, not {values['kind']!r}")
    if values["kind"] == "ternary" and values["bits"] != TERNARY_BITS:
        raise ProgramError(f"bits must be {TERNARY_BITS} where kind is ternary")


def _json_bytes(values: dict[str, Any]) -> bytes:
    return json.dumps(values, sort_keys=True, separators=(",", ":")).encode()


def _which_to_update(file_is_newer: bool) -> str:
    return "update lutcore" if file_is_newer else "compile the layer again"
