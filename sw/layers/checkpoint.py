"""Checkpoint files: what is in them, and a layer out of them."""

import difflib
from pathlib import Path

from lutcore.sw.base.errors import CheckpointError, LayerError
from lutcore.sw.layers.gguf_reader import GgufCheckpoint
from lutcore.sw.layers.layer import QuantLayer, TensorInfo
from lutcore.sw.layers.npz_reader import read_npz

__all__ = ["list_tensors", "read_layer"]


def list_tensors(path: Path | str) -> list[TensorInfo]:
    """List every tensor of a ``.gguf`` file, or the one layer of an ``.npz`` archive.

    Raises
    ------
    CheckpointError
        If the file cannot be read or is of another kind.
    """
    path = Path(path)
    if _suffix(path) == ".gguf":
        return GgufCheckpoint(path).list_tensors()
    try:
        layer = read_npz(path)
    except LayerError as error:
        return [TensorInfo(path.stem, "npz", (), False, str(error))]
    form = f"npz {layer.kind} {layer.bits}-bit, groups of {layer.group_size}"
    return [TensorInfo(layer.name, form, (layer.n, layer.k), True)]


def read_layer(path: Path | str, name: str | None = None) -> QuantLayer:
    """Read one quantised layer.

    Parameters
    ----------
    path : Path or str
        A ``.gguf`` file or an ``.npz`` archive.
    name : str or None
        The tensor's name. May be left out where the file holds one layer that compiles; that of
        an archive is the file's stem.

    Raises
    ------
    CheckpointError
        If the file cannot be read, or has no such tensor, or the tensor does not compile.
    LayerError
        If the tensor's values are not allowed, such as a scale that is NaN.
    """
    path = Path(path)
    if _suffix(path) == ".npz":
        if name is not None and name != path.stem:
            raise _unknown(path, name, [path.stem])
        return read_npz(path)
    checkpoint = GgufCheckpoint(path)
    tensors = checkpoint.list_tensors()
    if name is None:
        compiling = [tensor.name for tensor in tensors if tensor.compiles]
        if len(compiling) != 1:
            hint = f": name one, e.g. {compiling[0]}" if compiling else ""
            raise CheckpointError(f"{path} holds {len(compiling)} layers that compile{hint}")
        name = compiling[0]
    elif all(tensor.name != name for tensor in tensors):
        raise _unknown(path, name, [tensor.name for tensor in tensors])
    return checkpoint.read_layer(name)


def _suffix(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix not in (".gguf", ".npz"):
        raise CheckpointError(
            f"{path} ends in {suffix or 'no suffix'}: a checkpoint is a .gguf or .npz file"
        )
    return suffix


def _unknown(path: Path, name: str, known: list[str]) -> CheckpointError:
    near = difflib.get_close_matches(name, known, 3, 0.5) or known[:3]
    if not near:
        return CheckpointError(f"{path} has no layer {name!r}, nor any other")
    return CheckpointError(f"{path} has no layer {name!r}: did you mean {' or '.join(near)}?")
