"""Tables of docs/spec/isa.md that are made from the instruction table and the Architectures."""

from dataclasses import fields

from .architecture import ARCHITECTURES, Architecture
from .fields import HEAD, Field
from .instructions import KINDS, WORDS, Kind

BEGIN, END = "<!-- generated: {} -->", "<!-- end of generated: {} -->"


def layout_text() -> str:
    """Layout of all instructions as text: word, lowest bit and width of each field."""
    lines = []
    for kind in KINDS:
        lines.append(f"{kind.name} opcode={kind.opcode} unit={kind.unit} words={kind.words}/{WORDS}")
        lines += [
            f"  {p.word:2d}.{p.bit:<2d} {p.field.bits:2d} {p.field.name} {p.field.kind}" for p in kind.layout
        ]
    return "\n".join(lines) + "\n"


def sections() -> dict[str, str]:
    """Generated parts of the page by name."""
    return {"fields": _fields_text(), "architectures": _architectures_text()}


def refresh(page: str) -> str:
    """The page with its generated parts made anew."""
    for name, text in sections().items():
        begin, end = BEGIN.format(name), END.format(name)
        before, _, rest = page.partition(begin)
        _, _, after = rest.partition(end)
        page = f"{before}{begin}\n{text}\n{end}{after}"
    return page


def _fields_text() -> str:
    head = "Every instruction begins with:\n\n" + _table([(0, _bits(HEAD, i), f) for i, f in enumerate(HEAD)])
    return "\n\n".join([head, *(_kind_text(kind) for kind in KINDS)])


def _bits(group: tuple[Field, ...], index: int) -> int:
    return sum(field.bits for field in group[:index])


def _kind_text(kind: Kind) -> str:
    unit = {"all": "all units", "named": "the unit it names"}.get(kind.unit, f"unit `{kind.unit}`")
    title = f"### `{kind.name}` (opcode {kind.opcode}, {unit})\n\n{kind.doc}"
    own = kind.layout[len(HEAD) :]
    return title + ("\n\n" + _table([(p.word, p.bit, p.field) for p in own]) if own else "")


def _table(rows: list[tuple[int, int, Field]]) -> str:
    lines = ["| field | word.bit | bits | unit | range | default | |", "|---|---|---|---|---|---|---|"]
    for word, bit, field in rows:
        low, high = field.limits
        values = "float32" if field.kind == "float32" else f"{low}…{high}"
        default = "required" if low > field.default else f"{field.default}"
        cells = (f"`{field.name}`", f"{word}.{bit}", field.bits, field.unit, values, default, field.doc)
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def _architectures_text() -> str:
    names = list(ARCHITECTURES)
    lines = [f"| field | kind | {' | '.join(names)} | |", "|---|---|" + "---|" * (len(names) + 1)]
    for spec in fields(Architecture):
        if spec.name == "name":
            continue
        values = (getattr(a, spec.name) for a in ARCHITECTURES.values())
        cells = " | ".join(f"{v:,}" if v else "–" for v in values)
        lines.append(f"| `{spec.name}` | {spec.metadata['kind']} | {cells} | {spec.metadata['doc']} |")
    return "\n".join(lines)
