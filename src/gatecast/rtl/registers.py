"""The registers of the NPU, declared once: hardware decode, JSON and SVD follow from here.

Nothing here needs Amaranth, so that a driver may import it.
"""

import json
from dataclasses import dataclass
from enum import IntEnum
from xml.etree import ElementTree

from ..isa import UNITS, Architecture

IDENTITY = 0x47434E50
"""Value of the register `identity`."""

INTERFACE = 1
"""Version of this map and of the ports of the NPU."""

UNIT_BASE, UNIT_STRIDE = 24, 4
"""Words of the first unit's registers, and from a unit to the next."""


class Reason(IntEnum):
    """Why the NPU refused a text."""

    NONE = 0
    OPCODE = 1
    FORMAT = 2
    SPLIT = 3
    INTERLEAVE = 4
    OPERATION = 5
    NO_END = 6


ERRORS: dict[int, str] = {
    Reason.NONE: "no error",
    Reason.OPCODE: "the opcode, or the unit of a sync, is not known",
    Reason.FORMAT: "a format is missing, or wider than this NPU was built for",
    Reason.SPLIT: "this NPU does not split its lanes",
    Reason.INTERLEAVE: "interleave is larger than the accumulators of a lane",
    Reason.OPERATION: "the operation or activation is not known",
    Reason.NO_END: "the text has no end within its count of instructions",
}
"""What a reason means."""

UNIT_STATES = ("idle", "waiting", "running")
"""Values of the lowest bits of `<unit>_state`."""


@dataclass(frozen=True)
class Bits:
    """Some bits of a register."""

    name: str
    low: int
    width: int
    doc: str


@dataclass(frozen=True)
class Register:
    """A register of 32 bits at byte address ``4 * word``; `access` is R, W or RW."""

    name: str
    word: int
    access: str
    doc: str
    bits: tuple[Bits, ...] = ()


def _unit_registers(number: int, unit: str) -> tuple[Register, ...]:
    word = UNIT_BASE + UNIT_STRIDE * number
    state = (
        Bits("state", 0, 2, "0 idle, 1 waiting for tokens or the epilogue, 2 running"),
        Bits("missing", 8, 5, "Units that it still waits for"),
    )
    return (
        Register(f"{unit}_number", word, "R", "Instruction at work or waiting, within its text"),
        Register(f"{unit}_state", word + 1, "R", "What the unit does", state),
        Register(f"{unit}_busy", word + 2, "R", "Cycles with an instruction running, since start"),
        Register(f"{unit}_waiting", word + 3, "R", "Cycles waiting for tokens or the epilogue, since start"),
    )


_CONTROL = (
    Bits("start", 0, 1, "Run the text"),
    Bits("reset", 1, 1, "Stop everything and forget it; memories keep their content"),
)
_STATUS = (
    Bits("busy", 0, 1, "A text runs"),
    Bits("done", 1, 1, "The last text came to its end"),
    Bits("error", 2, 1, "The text was refused; see error"),
)

REGISTERS: tuple[Register, ...] = (
    Register("identity", 0, "R", f"{IDENTITY:#x}"),
    Register("interface", 1, "R", "Version of this map"),
    *(Register(f"digest{n}", 2 + n, "R", "Digest of the architecture, little-endian") for n in range(4)),
    Register("control", 6, "W", "Commands", _CONTROL),
    Register("status", 7, "R", "State of the whole", _STATUS),
    Register("error", 8, "R", "Why a text was refused: a number of the table of errors"),
    Register("error_number", 9, "R", "Instruction that was refused, within its text"),
    Register("text", 10, "RW", "Byte address of the first instruction, a multiple of 16"),
    Register("count", 11, "RW", "Instructions of the text"),
    Register("weights", 12, "RW", "Byte address of the section weights, a multiple of 16"),
    Register("workspace", 13, "RW", "Byte address of the section workspace, a multiple of 16"),
    Register("inputs", 14, "RW", "Byte address of the section inputs, a multiple of 16"),
    Register("outputs", 15, "RW", "Byte address of the section outputs, a multiple of 16"),
    Register("cycles", 16, "R", "Cycles from start to done, low word"),
    Register("cycles_high", 17, "R", "Cycles from start to done, high word"),
    Register("instructions", 18, "R", "Instructions that have written all, since start"),
    Register("products", 19, "R", "Cycles in which the lanes took a block, since start"),
    Register("reads", 20, "R", "Beats read from memory, since start"),
    Register("writes", 21, "R", "Beats written to memory, since start"),
    *(register for number, unit in enumerate(UNITS) for register in _unit_registers(number, unit)),
)
"""All registers, in the order of their addresses."""


def register_words() -> dict[str, int]:
    """Word of each register by name."""
    return {register.name: register.word for register in REGISTERS}


def register_map_json(architecture: Architecture) -> str:
    """The map as JSON: registers, table of errors, architecture."""
    registers = [
        {
            "name": r.name,
            "address": 4 * r.word,
            "access": r.access,
            "doc": r.doc,
            "bits": [vars(bits) for bits in r.bits],
        }
        for r in REGISTERS
    ]
    errors = {str(int(code)): text for code, text in ERRORS.items()}
    content = {
        "identity": IDENTITY,
        "interface": INTERFACE,
        "architecture": architecture.to_dict(),
        "digest": architecture.digest.hex(),
        "errors": errors,
        "registers": registers,
    }
    return json.dumps(content, indent=2) + "\n"


_ACCESS = {"R": "read-only", "W": "write-only", "RW": "read-write"}


def register_map_svd(architecture: Architecture) -> str:
    """The map as CMSIS-SVD, which debuggers and register generators read."""
    device = ElementTree.Element("device", schemaVersion="1.3")
    for name, text in (
        ("name", f"gatecast_{architecture.name}"),
        ("version", str(INTERFACE)),
        ("description", f"Gatecast NPU {architecture.name}"),
        ("addressUnitBits", "8"),
        ("width", "32"),
    ):
        ElementTree.SubElement(device, name).text = text
    peripherals = ElementTree.SubElement(device, "peripherals")
    npu = ElementTree.SubElement(peripherals, "peripheral")
    ElementTree.SubElement(npu, "name").text = "NPU"
    ElementTree.SubElement(npu, "baseAddress").text = "0x0"
    block = ElementTree.SubElement(npu, "addressBlock")
    for name, text in (("offset", "0x0"), ("size", "0x400"), ("usage", "registers")):
        ElementTree.SubElement(block, name).text = text
    registers = ElementTree.SubElement(npu, "registers")
    for register in REGISTERS:
        _svd_register(registers, register)
    ElementTree.indent(device)
    return ElementTree.tostring(device, encoding="unicode", xml_declaration=True) + "\n"


def _svd_register(parent: ElementTree.Element, register: Register) -> None:
    element = ElementTree.SubElement(parent, "register")
    for name, text in (
        ("name", register.name),
        ("description", register.doc),
        ("addressOffset", f"{4 * register.word:#x}"),
        ("size", "32"),
        ("access", _ACCESS[register.access]),
    ):
        ElementTree.SubElement(element, name).text = text
    if register.bits:
        fields = ElementTree.SubElement(element, "fields")
        for bits in register.bits:
            field = ElementTree.SubElement(fields, "field")
            for name, text in (
                ("name", bits.name),
                ("description", bits.doc),
                ("bitOffset", str(bits.low)),
                ("bitWidth", str(bits.width)),
            ):
                ElementTree.SubElement(field, name).text = text


def register_tables() -> str:
    """Registers and reasons as Markdown, for docs/spec/npu.md."""
    lines = ["| word | byte | register | access | |", "|---|---|---|---|---|"]
    for r in REGISTERS:
        bits = "; ".join(f"{b.low}{_upper(b)} `{b.name}`: {b.doc}" for b in r.bits)
        doc = r.doc + (f". {bits}" if bits else "")
        lines.append(f"| {r.word} | {4 * r.word:#04x} | `{r.name}` | {r.access} | {doc} |")
    lines += ["", "| `error` | |", "|---|---|"]
    lines += [f"| {int(code)} | {text} |" for code, text in ERRORS.items()]
    return "\n".join(lines)


def _upper(bits: Bits) -> str:
    return f"…{bits.low + bits.width - 1}" if bits.width > 1 else ""
