"""The C++ extension of native/: kernels of the software device, and blocks."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

_Bytes = npt.NDArray[np.uint8]

def instruction_sets() -> list[str]: ...
def encode(
    values: npt.NDArray[np.float32],
    counts: Sequence[int],
    bits: int,
    mantissas: npt.NDArray[np.int8],
    exponents: _Bytes,
) -> int: ...

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
    ) -> None: ...
    def run(self, inputs: _Bytes) -> bytes: ...
    def run_profiled(self, inputs: _Bytes, nanoseconds: npt.NDArray[np.uint64]) -> None: ...
    @property
    def instruction_set(self) -> str: ...
    @property
    def threads(self) -> int: ...
    @property
    def packed_bytes(self) -> int: ...
