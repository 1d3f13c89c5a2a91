"""A quantised layer out of a NumPy ``.npz`` archive.

Affine: ``codes`` uint8 [N, K], ``bits``, ``scales`` [N, G] and optional ``offsets`` [N, G].
Planes: ``planes`` int8 [P, N, K] of ±1, ``plane_scales`` [N, G, P] and optional ``offsets``.
Ternary: ``trits`` int8 [N, K] of -1, 0 and +1, ``scales`` [N, G] and optional ``offsets``.
All: ``group_size``, which may be left out when K is a multiple of G, and optional ``bias`` [N].
Scales and offsets are float16 or float32, and the bias is float32.
"""

import difflib
import zipfile
import zlib
from pathlib import Path

import numpy as np

from lutcore.sw.base.errors import CheckpointError
from lutcore.sw.layers.layer import TERNARY_BITS, Kind, QuantLayer

__all__ = ["read_npz"]

# Codes, by which a kind is told, scales, and what else must be there.
_KEYS: dict[Kind, tuple[str, ...]] = {
    "planes": ("planes", "plane_scales"),
    "ternary": ("trits", "scales"),
    "affine": ("codes", "scales", "bits"),
}
_OPTIONAL = ("offsets", "group_size", "bias")
#: Trits that a byte holds.
_TRITS_PER_BYTE = 5

# What damaged, encrypted or exotic archives, and arrays of objects, raise in NumPy and zipfile.
_LOAD_ERRORS = (
    ValueError,
    LookupError,
    EOFError,
    MemoryError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
)


def read_npz(path: Path) -> QuantLayer:
    """Read the one layer of an archive, named by the file's stem.

    Raises
    ------
    CheckpointError
        If the file is missing or corrupt, or its keys are not those of a layer.
    LayerError
        If the arrays contradict each other or hold values that are not allowed.
    """
    arrays = _load(path)
    found: list[Kind] = [kind for kind, keys in _KEYS.items() if keys[0] in arrays]
    kind: Kind = found[0] if found else "affine"
    needed = _KEYS[kind]
    keys = (*needed, *_OPTIONAL)
    for key in arrays:
        if key not in keys:
            near = difflib.get_close_matches(key, keys, 1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise CheckpointError(
                f"{path}: unknown key {key!r}{hint}: a layer of {keys[0]} has the keys "
                f"{', '.join(keys)}"
            )
    for key in needed:
        if key not in arrays:
            raise CheckpointError(f"{path}: the key {key!r} is missing")

    codes, scales = arrays[needed[0]], arrays[needed[1]]
    ndim = 3 if kind == "planes" else 2
    if codes.ndim != ndim or scales.ndim != ndim:
        raise CheckpointError(
            f"{path}: {keys[0]} and scales must have {ndim} axes each, not the shapes "
            f"{codes.shape} and {scales.shape}"
        )
    if kind == "affine":
        bits = _integer(path, arrays, "bits")
        code_bytes = -(-bits * codes.size // 8)
    elif kind == "planes":
        bits, code_bytes = codes.shape[0], -(-codes.size // 8)
    else:
        bits, code_bytes = TERNARY_BITS, -(-codes.size // _TRITS_PER_BYTE)
    if "group_size" in arrays:
        group_size = _integer(path, arrays, "group_size")
    else:
        group_size = _inferred_group_size(path, codes, scales)
    offsets = arrays.get("offsets")
    stored = [scales] if offsets is None else [scales, offsets]
    return QuantLayer(
        name=path.stem,
        kind=kind,
        bits=bits,
        codes=codes,
        group_size=group_size,
        scales=scales,
        offsets=offsets,
        bias=arrays.get("bias"),
        checkpoint_bytes=code_bytes + sum(array.nbytes for array in stored),
    )


def _load(path: Path) -> dict[str, np.ndarray]:
    """Every array of the archive, in the machine's byte order."""
    try:
        archive = np.load(path, allow_pickle=False)
        if isinstance(archive, np.ndarray):
            raise CheckpointError(f"{path} is one array: write a layer's arrays with numpy.savez")
        with archive:
            arrays = {key: archive[key] for key in archive.files}
    except CheckpointError:
        raise
    except OSError as error:
        raise CheckpointError(f"Cannot read {path}: {error.strerror or error}") from error
    except _LOAD_ERRORS as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(
            f"{path} is not a whole .npz archive of plain arrays ({reason}): write it again with "
            "numpy.savez"
        ) from error
    return {key: array.astype(array.dtype.newbyteorder("=")) for key, array in arrays.items()}


def _integer(path: Path, arrays: dict[str, np.ndarray], key: str) -> int:
    array = arrays[key]
    if array.size != 1 or not np.issubdtype(array.dtype, np.integer):
        raise CheckpointError(
            f"{path}: {key} must be one integer, not {array.dtype} {list(array.shape)}"
        )
    return int(array.item())


def _inferred_group_size(path: Path, codes: np.ndarray, scales: np.ndarray) -> int:
    """K / G where the archive leaves the group size out."""
    k, groups = codes.shape[-1], scales.shape[1]
    if groups == 0 or k % groups:
        raise CheckpointError(
            f"{path}: K = {k} is no multiple of the {groups} groups of scales, so group_size "
            "must be given"
        )
    return k // groups
