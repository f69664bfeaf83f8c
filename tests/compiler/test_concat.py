"""Parts of a Concat lie side by side."""

from gatecast.compiler.concat import Join, place_joins
from gatecast.compiler.operations import Buffer, Ref


def join(value: str, parts: str, *channels: int, formats: str = "", fmt: str = "bfp8") -> Join:
    found = tuple(formats.split()) or ("bfp8",) * len(channels)
    return Join(value, tuple(parts.split()), channels, fmt, found, (4, 5))


def anywhere(_: str) -> bool:
    return True


def test_parts_lie_side_by_side_in_one_buffer():
    placement = place_joins([join("z", "x y", 32, 50)], anywhere)
    assert placement.buffers == {"z": Buffer("z", "bfp8", 4, 5, 3)}
    assert placement.refs == {"x": Ref("z", 0, 1), "y": Ref("z", 1, 2), "z": Ref("z", 0, 3)}


def test_a_join_inside_another_has_no_buffer_of_its_own():
    placement = place_joins([join("z", "x y", 32, 32), join("w", "v z", 32, 64)], anywhere)
    assert list(placement.buffers) == ["w"]
    assert placement.refs["z"] == Ref("w", 1, 2)
    assert placement.refs["y"] == Ref("w", 2, 1)


def test_a_join_of_parts_that_lie_so_already_is_an_address():
    joins = [join("p", "a b", 32, 32), join("q", "a b c", 32, 32, 32)]
    placement = place_joins(joins, anywhere)
    assert list(placement.buffers) == ["q"]
    assert placement.refs["p"] == Ref("q", 0, 2)


def test_a_part_that_lies_elsewhere_is_left_to_be_copied():
    placement = place_joins([join("p", "a b", 32, 32), join("q", "b a", 32, 32)], anywhere)
    assert set(placement.buffers) == {"p", "q"}
    assert placement.refs["a"] == Ref("q", 1, 1)
    assert placement.refs["p"] == Ref("p", 0, 2)


def test_a_part_that_nothing_writes_by_itself_is_not_placed():
    placement = place_joins([join("z", "x y", 32, 32)], lambda value: value != "x")
    assert "x" not in placement.refs


def test_a_part_of_another_format_is_not_placed():
    placement = place_joins([join("z", "x y", 32, 32, formats="bfp5 bfp8")], anywhere)
    assert "x" not in placement.refs and placement.refs["y"] == Ref("z", 1, 1)


def test_odd_parts_are_gathered_in_whole_blocks_of_the_widest_format():
    placement = place_joins([join("z", "x y", 20, 40, formats="bfp5 bfp6", fmt="bfp4")], anywhere)
    assert placement.buffers == {"z.parts": Buffer("z.parts", "bfp6", 4, 5, 3)}
    assert placement.refs == {"y": Ref("z.parts", 1, 2)}
