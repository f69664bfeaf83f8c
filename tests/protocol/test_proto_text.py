import pytest
from google.protobuf import descriptor_pb2

from gatecast.errors import FileError
from gatecast.protocol import parse_proto

HEAD = 'syntax = "proto3";\n'
FIELD = descriptor_pb2.FieldDescriptorProto


def parse(text):
    return parse_proto("x.proto", HEAD + text)


def test_a_package_and_imports_are_read():
    file = parse('package a.b; import "other.proto"; import "google/protobuf/any.proto";')
    assert (file.name, file.syntax, file.package) == ("x.proto", "proto3", "a.b")
    assert list(file.dependency) == ["other.proto", "google/protobuf/any.proto"]


def test_comments_and_layout_do_not_matter():
    spread = parse("// first { \nmessage M { // here\n int32\n a = 1; // there ;\n}\n")
    assert spread == parse("message M{int32 a=1;}")


@pytest.mark.parametrize(
    "name", ["double", "float", "int64", "uint64", "int32", "bool", "string", "bytes", "uint32"]
)
def test_scalar_fields_have_their_type(name):
    field = parse(f"message M {{ {name} value = 7; }}").message_type[0].field[0]
    assert (field.name, field.number, field.label) == ("value", 7, FIELD.LABEL_OPTIONAL)
    assert field.type == getattr(FIELD, f"TYPE_{name.upper()}")


def test_repeated_fields_and_message_types():
    field = parse("message M { repeated a.Other items = 2; }").message_type[0].field[0]
    assert (field.label, field.type_name, field.HasField("type")) == (FIELD.LABEL_REPEATED, "a.Other", False)


def test_a_map_becomes_a_list_of_entries():
    message = parse("message M { map<string, Other> model_inputs = 3; }").message_type[0]
    entry = message.nested_type[0]
    assert entry.name == "ModelInputsEntry"
    assert entry.options.map_entry
    assert [(field.name, field.number) for field in entry.field] == [("key", 1), ("value", 2)]
    assert message.field[0].type_name == "ModelInputsEntry"
    assert message.field[0].label == FIELD.LABEL_REPEATED


def test_only_the_fields_of_a_oneof_belong_to_it():
    message = parse("message M { oneof choice { int64 a = 1; string b = 4; } string c = 3; }").message_type[0]
    assert [decl.name for decl in message.oneof_decl] == ["choice"]
    assert [(f.name, f.HasField("oneof_index")) for f in message.field] == [
        ("a", True),
        ("b", True),
        ("c", False),
    ]


def test_nested_messages_enums_and_reserved_numbers():
    message = parse("message M { message N { } enum E { Z = 0; NEG = -1; } reserved 4; }").message_type[0]
    assert message.nested_type[0].name == "N"
    assert [(value.name, value.number) for value in message.enum_type[0].value] == [("Z", 0), ("NEG", -1)]
    assert (message.reserved_range[0].start, message.reserved_range[0].end) == (4, 5)


def test_a_field_may_choose_its_json_name():
    field = parse('message M { string error_code = 1 [json_name = "error_code"]; }').message_type[0].field[0]
    assert field.json_name == "error_code"


def test_services_list_their_calls():
    service = parse("service S { rpc Do(Request) returns (Reply); }").service[0]
    method = service.method[0]
    assert (service.name, method.name, method.input_type, method.output_type) == (
        "S",
        "Do",
        "Request",
        "Reply",
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("message M { int32 a; }", "x.proto, token 10: must be '=', not ';'"),
        ("option x = 1;", "x.proto, token 5: must be a definition, not 'option'"),
        ("message M { int32 a = 1", "x.proto must end after a definition, not inside one"),
        ("message M { int32 a = 1 }", "x.proto, token 12: must be ';', not '}'"),
        (
            "message M { int32 a = 1 [packed = true]; }",
            "x.proto, token 13: must be 'json_name', not 'packed'",
        ),
        ("message M ? {}", "x.proto must not contain '?' (at character 29)"),
    ],
)
def test_what_is_not_understood_is_refused_and_located(text, message):
    with pytest.raises(FileError) as error:
        parse(text)
    assert str(error.value) == message


def test_another_syntax_is_refused():
    with pytest.raises(FileError, match="must be '\"proto3\"', not '\"proto2\"'"):
        parse_proto("x.proto", 'syntax = "proto2";')
