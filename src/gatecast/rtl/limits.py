"""What this hardware can be built for."""

from ..errors import DeviceError
from ..isa import Architecture
from ..numerics import BLOCK_SIZE

LANES = (4, 8, 16, 32)
VALUES = (1, 2, 4)
LATENCIES = (5, 7, 9)
MOST_INTERLEAVE = 32


def check_limits(architecture: Architecture) -> None:
    """DeviceError that names each size of the Architecture that cannot be built, if there is one."""
    problems = [
        f"{name} must be {_words(allowed)}, not {getattr(architecture, name)}"
        for name, allowed in (
            ("lanes", LANES),
            ("depth", (1,)),
            ("pixels", (1,)),
            ("max_split", (1,)),
            ("adder_latency", LATENCIES),
            ("epilogue_values", VALUES),
            ("vector_values", VALUES),
        )
        if getattr(architecture, name) not in allowed
    ]
    if architecture.vector_values != architecture.epilogue_values:
        problems.append(
            f"vector_values must be those of the epilogue, which runs pools and maps too: "
            f"{architecture.epilogue_values}, not {architecture.vector_values}"
        )
    if not architecture.adder_latency <= architecture.max_interleave <= MOST_INTERLEAVE:
        problems.append(
            f"max_interleave must lie in {architecture.adder_latency}..{MOST_INTERLEAVE}, "
            f"not {architecture.max_interleave}"
        )
    for name, most in (("activation_blocks", 1 << 20), ("vectors", 1 << 16), ("weight_panels", 1 << 16)):
        if not 2 <= getattr(architecture, name) <= most:
            problems.append(f"{name} must lie in 2..{most}, not {getattr(architecture, name)}")
    for name in ("max_weight_bits", "max_activation_bits"):
        if not 4 <= getattr(architecture, name) <= 8:
            problems.append(f"{name} must lie in 4..8, not {getattr(architecture, name)}")
    if problems:
        raise DeviceError(
            f"Architecture {architecture.name} is more than this hardware can be built for:\n"
            + "\n".join(problems),
            hint=f"Build one such as tiny or ecp5_85f, with at most {BLOCK_SIZE} lanes.",
        )


def _words(allowed: tuple[int, ...]) -> str:
    return " or ".join(map(str, allowed))
