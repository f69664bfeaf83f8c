"""A reader of the `.proto` language, as much of it as our own files use.

Messages (nested, with `oneof`, `map`, `repeated`, `reserved`), enums, services with unary calls, and the
field option `json_name`. Type names are left as written: the descriptor pool resolves them.
"""

import re
from collections.abc import Iterator

from google.protobuf import descriptor_pb2

from gatecast.errors import FileError

_TOKEN = re.compile(r'\s+|//[^\n]*|(?P<token>"[^"\n]*"|[A-Za-z_.][\w.]*|-?\d+|[{}()<>\[\]=;,])')
_FIELD = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    name: getattr(_FIELD, f"TYPE_{name.upper()}")
    for name in ("double", "float", "int64", "uint64", "int32", "bool", "string", "bytes", "uint32")
}


def parse_proto(name: str, text: str) -> descriptor_pb2.FileDescriptorProto:
    """Parse one `.proto` file.

    Parameters
    ----------
    name : str
        The file's name, as other files import it.
    text : str
        Its text, in syntax ``proto3``.

    Raises
    ------
    FileError
        The text is not in the supported part of the language; the message says where.
    """
    return _Parser(name, text).file()


class _Parser:
    def __init__(self, name: str, text: str) -> None:
        self._name = name
        self._tokens = list(_tokens(name, text))
        self._at = 0

    def file(self) -> descriptor_pb2.FileDescriptorProto:
        file = descriptor_pb2.FileDescriptorProto(name=self._name, syntax="proto3")
        self._expect("syntax", "=", '"proto3"', ";")
        while self._at < len(self._tokens):
            match self._next():
                case "package":
                    file.package = self._next()
                    self._expect(";")
                case "import":
                    file.dependency.append(self._next().strip('"'))
                    self._expect(";")
                case "message":
                    self._message(file.message_type.add())
                case "enum":
                    self._enum(file.enum_type.add())
                case "service":
                    self._service(file)
                case other:
                    raise self._error("a definition", other)
        return file

    def _message(self, message: descriptor_pb2.DescriptorProto) -> None:
        message.name = self._next()
        self._expect("{")
        while (word := self._next()) != "}":
            match word:
                case "message":
                    self._message(message.nested_type.add())
                case "enum":
                    self._enum(message.enum_type.add())
                case "oneof":
                    self._oneof(message)
                case "reserved":
                    number = int(self._next())
                    message.reserved_range.add(start=number, end=number + 1)
                    self._expect(";")
                case "map":
                    self._map(message)
                case "repeated":
                    self._field(message, self._next(), _FIELD.LABEL_REPEATED)
                case type_name:
                    self._field(message, type_name, _FIELD.LABEL_OPTIONAL)

    def _oneof(self, message: descriptor_pb2.DescriptorProto) -> None:
        index = len(message.oneof_decl)
        message.oneof_decl.add(name=self._next())
        self._expect("{")
        while (type_name := self._next()) != "}":
            self._field(message, type_name, _FIELD.LABEL_OPTIONAL).oneof_index = index

    def _map(self, message: descriptor_pb2.DescriptorProto) -> None:
        self._expect("<")
        key = self._next()
        self._expect(",")
        value = self._next()
        self._expect(">")
        name = self._tokens[self._at]
        entry = message.nested_type.add(name="".join(part.title() for part in name.split("_")) + "Entry")
        entry.options.map_entry = True
        _set_type(entry.field.add(name="key", number=1, label=_FIELD.LABEL_OPTIONAL), key)
        _set_type(entry.field.add(name="value", number=2, label=_FIELD.LABEL_OPTIONAL), value)
        self._field(message, entry.name, _FIELD.LABEL_REPEATED)

    def _field(
        self, message: descriptor_pb2.DescriptorProto, type_name: str, label: int
    ) -> descriptor_pb2.FieldDescriptorProto:
        field = message.field.add(name=self._next(), label=label)
        self._expect("=")
        field.number = int(self._next())
        _set_type(field, type_name)
        if (word := self._next()) == "[":
            self._expect("json_name", "=")
            field.json_name = self._next().strip('"')
            self._expect("]", ";")
        elif word != ";":
            raise self._error("';'", word)
        return field

    def _enum(self, enum: descriptor_pb2.EnumDescriptorProto) -> None:
        enum.name = self._next()
        self._expect("{")
        while (name := self._next()) != "}":
            self._expect("=")
            enum.value.add(name=name, number=int(self._next()))
            self._expect(";")

    def _service(self, file: descriptor_pb2.FileDescriptorProto) -> None:
        service = file.service.add(name=self._next())
        self._expect("{")
        while self._next() == "rpc":
            method = service.method.add(name=self._next())
            self._expect("(")
            method.input_type = self._next()
            self._expect(")", "returns", "(")
            method.output_type = self._next()
            self._expect(")", ";")

    def _next(self) -> str:
        if self._at == len(self._tokens):
            raise FileError(f"{self._name} must end after a definition, not inside one")
        self._at += 1
        return self._tokens[self._at - 1]

    def _expect(self, *words: str) -> None:
        for word in words:
            if (found := self._next()) != word:
                raise self._error(repr(word), found)

    def _error(self, wanted: str, found: str) -> FileError:
        return FileError(f"{self._name}, token {self._at}: must be {wanted}, not {found!r}")


def _set_type(field: descriptor_pb2.FieldDescriptorProto, type_name: str) -> None:
    if type_name in _SCALARS:
        field.type = _SCALARS[type_name]
    else:
        field.type_name = type_name


def _tokens(name: str, text: str) -> Iterator[str]:
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise FileError(f"{name} must not contain {text[at]!r} (at character {at})")
        at = match.end()
        if match["token"]:
            yield match["token"]
