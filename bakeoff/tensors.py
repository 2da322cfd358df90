"""Reads safetensors without torch: a folder's tensors by name, as float32, one at a time.

The numpy reader of the safetensors package knows no bfloat16, the type most base models come in. The format is a
length, a JSON header and raw bytes (https://huggingface.co/docs/safetensors), so the files are mapped instead.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from bakeoff.errors import Mismatch

Array = NDArray[np.float32]

_TYPES: dict[str, Any] = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16}


class _Entry(msgspec.Struct, frozen=True):
    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]


class Tensors:
    """The tensors of some safetensors files, read when asked for."""

    def __init__(self, paths: Iterable[Path]) -> None:
        """Read the headers.

        Raises:
            Mismatch: a file is no safetensors file, or is cut short.
        """
        self._found: dict[str, tuple[Path, int, _Entry]] = {}
        for path in sorted(paths):
            for name, start, entry in _read_header(path):
                self._found[name] = (path, start, entry)

    @property
    def names(self) -> set[str]:
        """Names of all tensors."""
        return set(self._found)

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor, without reading it."""
        return self._found[name][2].shape

    def read(self, name: str) -> Array:
        """Read a tensor.

        Returns:
            float32, in the shape of the file; exact for float16 and bfloat16.

        Raises:
            Mismatch: it holds something else than floating-point numbers.
        """
        path, start, entry = self._found[name]
        if entry.dtype not in _TYPES:
            raise Mismatch(f"{path}: tensor {name} is {entry.dtype}; expected {', '.join(_TYPES)}")
        mapped = np.memmap(path, mode="r", dtype=_TYPES[entry.dtype], offset=start, shape=entry.shape)
        if entry.dtype == "BF16":
            return (mapped.astype(np.uint32) << 16).view(np.float32)
        return np.asarray(mapped, dtype=np.float32)


def _read_header(path: Path) -> Iterable[tuple[str, int, _Entry]]:
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > size:
            raise Mismatch(f"{path} is not a safetensors file, or is cut short")
        try:
            header = msgspec.json.decode(file.read(length), type=dict[str, Any])
            header.pop("__metadata__", None)
            entries = msgspec.convert(header, dict[str, _Entry])
        except (msgspec.ValidationError, msgspec.DecodeError) as error:
            raise Mismatch(f"{path} is not a safetensors file: {error}") from error
    for name, entry in entries.items():
        if 8 + length + entry.data_offsets[1] > size:
            raise Mismatch(f"{path} is cut short: tensor {name} ends beyond the file")
        yield name, 8 + length + entry.data_offsets[0], entry
