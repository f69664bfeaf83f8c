import json

import pytest

from gatecast.cli import terminal


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (26 << 20, "26.0 MiB"),
        (5 << 40, "5120.0 GiB"),
    ],
)
def test_bytes_come_in_the_largest_unit_that_fits(number, text):
    assert terminal.size(number) == text


@pytest.mark.parametrize(("us", "text"), [(0.5, "0.00 ms"), (1234.5, "1.23 ms"), (123456.0, "123 ms")])
def test_times_are_milliseconds(us, text):
    assert terminal.milliseconds(us) == text


def test_counts_are_grouped_by_thousands():
    assert terminal.count(1234567) == "1,234,567"


def test_a_table_sets_numbers_to_the_right_and_cuts_nothing(capsys):
    long = "a/very/long/name/" * 8
    terminal.print_table(("layer", ">MACs"), [(long, "1"), ("b", "1,000")])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["layer", "MACs"]
    assert lines[2].split() == [long, "1"]
    assert lines[3].endswith("  1,000")
    assert len(lines) == 4
    assert all(line == line.rstrip() for line in lines)


def test_what_looks_like_markup_is_printed_as_it_is(capsys):
    terminal.print_table(("shape", "name"), [([1, 2], "[bold]x[/bold]")])
    assert capsys.readouterr().out.splitlines()[2].split() == ["[1,", "2]", "[bold]x[/bold]"]


def test_messages_go_to_stderr_and_data_to_stdout(capsys):
    terminal.say("working")
    terminal.print_json({"a": [1, "ü"]})
    out, err = capsys.readouterr()
    assert err == "working\n"
    assert json.loads(out) == {"a": [1, "ü"]}


def test_work_is_announced_once_where_there_is_no_terminal(capsys):
    with terminal.working("Compiling"):
        pass
    assert capsys.readouterr() == ("", "Compiling\n")


def test_a_download_is_announced_once_where_there_is_no_terminal(capsys):
    with terminal.downloading() as show:
        show(10, 2048)
        show(2048, 2048)
    assert capsys.readouterr() == ("", "Downloading 2.0 KiB\n")


def test_nothing_is_said_of_a_download_that_does_not_happen(capsys):
    with terminal.downloading():
        pass
    assert capsys.readouterr() == ("", "")
