"""What an NPU refuses to run, in plain Python: `Fetch` must do the same. See docs/spec/npu.md §4."""

from ..isa import KINDS, UNITS, Architecture, Kind, format_code
from ..numerics import FORMATS
from .registers import Reason

_BY_OPCODE = {kind.opcode: kind for kind in KINDS}


def handed_to(code: bytes) -> str:
    """Unit that an instruction of 128 bytes goes to; `all` for `end`. It must be one that is not refused."""
    kind = _BY_OPCODE[code[0]]
    return UNITS[field_values(code)["unit"]] if kind.name == "sync" else kind.unit


def field_values(code: bytes) -> dict[str, int]:
    """Bits of each field, as they stand: nothing is checked, no sign is seen. The opcode must be known."""
    words = int.from_bytes(code, "little")
    return {
        place.field.name: words >> 32 * place.word + place.bit & (1 << place.field.bits) - 1
        for place in _BY_OPCODE[code[0]].layout
    }


def refusal(code: bytes, sizes: Architecture) -> Reason:
    """Why an NPU of these sizes refuses an instruction of 128 bytes; `Reason.NONE` if it runs it."""
    kind = _BY_OPCODE.get(code[0])
    if kind is None:
        return Reason.OPCODE
    values = field_values(code)
    if kind.name == "sync" and values["unit"] >= len(UNITS):
        return Reason.OPCODE
    if kind.name == "map" and (values["operation"] > 5 or values["activation"] > 5):
        return Reason.OPERATION
    if any(values[name] not in _allowed(kind, name, sizes) for name in _formats(kind, values)):
        return Reason.FORMAT
    if values.get("split", 0):
        return Reason.SPLIT
    if values.get("interleave", 0) > sizes.max_interleave:
        return Reason.INTERLEAVE
    return Reason.NONE


def _formats(kind: Kind, values: dict[str, int]) -> list[str]:
    """Format fields that count: a view that may be missing counts where it is there."""
    counts = {f"{view}_format": True for view in kind.views} | {
        name: True for name in ("format", "weight_format") if name in values
    }
    if kind.name == "convolve":
        counts |= {"out_format": not values["suspend"], "residual_format": values["residual_format"] != 0}
    if kind.name == "map":
        counts["b_format"] = values["operation"] != 0
    return [name for name, does in counts.items() if does]


def _allowed(kind: Kind, name: str, sizes: Architecture) -> list[int]:
    """Codes of the formats that a field may name; weights, and what is multiplied with them, are blocks."""
    is_weights = name in ("format", "weight_format")
    most = sizes.max_weight_bits if is_weights else sizes.max_activation_bits
    blocks = [format_code(fmt.name) for fmt in FORMATS.values() if fmt.bits <= most]
    only_blocks = is_weights or (kind.name, name) == ("convolve", "in_format")
    return blocks if only_blocks else [*blocks, format_code("float32")]
