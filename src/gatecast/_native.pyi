"""The C++ extension of native/: kernels of the software device, and what the host does."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

_Bytes = npt.NDArray[np.uint8]
_Values = npt.NDArray[np.float32]

def instruction_sets() -> list[str]: ...
def encode(
    values: _Values,
    counts: Sequence[int],
    bits: int,
    bounded: bool,
    mantissas: _Bytes,
    exponents: _Bytes,
) -> bool: ...
def take_inputs(values: _Values, results: _Values) -> bool: ...
def resize_legacy(
    pixels: _Bytes,
    height: int,
    width: int,
    top: int,
    left: int,
    steps: Sequence[Sequence[float]],
    reversed: bool,
    image: _Values,
    portable: bool = False,
) -> None: ...
def resize_antialiased(
    pixels: _Bytes,
    height: int,
    width: int,
    top: int,
    left: int,
    table: _Values,
    reversed: bool,
    image: _Values,
    portable: bool = False,
) -> None: ...
def look_up(pixels: _Bytes, table: _Values, reversed: bool, image: _Values) -> None: ...
def peak_products(instruction_set: str, threads: int) -> float: ...
def peak_reading(bytes: int, threads: int) -> float: ...

class Gather:
    def __init__(self, table: npt.NDArray[np.int32], counts: Sequence[int], source: int) -> None: ...
    def copy(self, source: _Values, result: _Values) -> None: ...
    def encode(self, source: _Values, bits: int, mantissas: _Bytes, exponents: _Bytes) -> bool: ...

class Program:
    def __init__(
        self,
        kinds: Mapping[int, tuple[str, Mapping[str, tuple[int, int, int, bool]]]],
        text: _Bytes,
        prologue: int,
        sizes: Mapping[str, int],
        weights: _Bytes,
        instruction_set: str,
        threads: int,
        digest: str = "",
    ) -> None: ...
    def run(self, inputs: _Bytes) -> bytes: ...
    def run_profiled(self, inputs: _Bytes, nanoseconds: npt.NDArray[np.uint64]) -> None: ...
    @property
    def instruction_set(self) -> str: ...
    @property
    def threads(self) -> int: ...
    @property
    def packed_address(self) -> int: ...
    @property
    def packed_bytes(self) -> int: ...
