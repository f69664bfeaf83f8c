import gzip
import io
import platform
import tarfile

import pytest
from tests.workspace.root_files import elf, files, member, write_tar

from gatecast.errors import FileError, WorkspaceError
from gatecast.workspace import root_tar
from gatecast.workspace.distributions import PYTHON
from gatecast.workspace.root_tar import open_root_tar


@pytest.fixture
def opened(tmp_path):
    """Write a tar, open it, and give what a function makes of it."""

    def opened(*members, use=lambda root: list(root.entries()), **given):
        path = write_tar(tmp_path / "root.tar", members, **given)
        with open_root_tar(path, tmp_path) as root:
            return use(root)

    return opened


def open_and_close(path, scratch):
    with open_root_tar(path, scratch) as root:
        return list(root.entries())


def test_members_become_entries_with_their_owners(opened):
    found = opened(
        member("./", tarfile.DIRTYPE, mode=0o755),
        member("./home/", tarfile.DIRTYPE, mode=0o755),
        member("./home/me", tarfile.DIRTYPE, mode=0o1777, uid=65532, gid=65532),
        member("./home/me/x", data=b"data", mode=0o640, uid=65532),
        member("./home/me/link", tarfile.SYMTYPE, linkname="/etc/x"),
        contents={},
    )
    seen = [(e.path, e.kind, e.mode, e.size, e.target, e.uid, e.gid) for e in found]
    assert seen == [
        ("home", "folder", 0o755, 0, "", 0, 0),
        ("home/me", "folder", 0o1777, 0, "", 65532, 65532),
        ("home/me/x", "file", 0o640, 4, "", 65532, 0),
        ("home/me/link", "link", 0o777, 0, "/etc/x", 0, 0),
    ]


def test_bits_that_give_a_program_its_owners_rights_are_taken_away(opened):
    found = opened(
        member("su", mode=0o4755), member("wall", mode=0o2755), member("d", tarfile.DIRTYPE, mode=0o2775)
    )
    assert [entry.mode for entry in found if entry.path in ("su", "wall", "d")] == [0o755, 0o755, 0o775]


def test_devices_and_pipes_are_left_out(opened):
    kinds = (tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE)
    found = opened(*(member(f"dev/{number}", kind) for number, kind in enumerate(kinds)), contents={})
    assert found == []


def test_another_name_of_a_file_becomes_a_file(opened):
    found = opened(
        member("a", data=b"content"),
        member("b", tarfile.LNKTYPE, linkname="./a"),
        use=lambda root: root.read("b"),
    )
    assert found == b"content"


@pytest.mark.parametrize("target", ["nothing", "link", "b"])
def test_another_name_of_what_is_no_file_is_refused(target, opened):
    with pytest.raises(FileError, match="Member b of root.tar must be another name of a file before it"):
        opened(member("link", tarfile.SYMTYPE, linkname="x"), member("b", tarfile.LNKTYPE, linkname=target))


HOSTILE = {
    "an absolute path": member("/etc/passwd"),
    "a path upward": member("usr/../../etc/passwd"),
    "a name that is another one": member("b", tarfile.LNKTYPE, linkname="../../etc/shadow"),
    "a folder upward": member("..", tarfile.DIRTYPE),
}


@pytest.mark.parametrize("bad", HOSTILE.values(), ids=HOSTILE)
def test_a_member_that_could_leave_the_image_is_refused(bad, opened):
    with pytest.raises(FileError, match="Member of root.tar must stay inside the image, not"):
        opened(bad)


def test_a_member_that_comes_twice_is_refused(opened):
    with pytest.raises(FileError, match="Member a of root.tar must come once"):
        opened(member("a"), member("./a"))


def test_a_mark_of_a_deleted_file_is_refused(opened):
    with pytest.raises(FileError, match="must not be a mark of a deleted file, as 'etc/.wh.passwd' is"):
        opened(member("etc/.wh.passwd"))


def test_too_many_members_are_refused(opened, monkeypatch):
    monkeypatch.setattr(root_tar, "MOST_MEMBERS", 3)
    with pytest.raises(FileError, match="Root file system root.tar must have 1 to 3 members"):
        opened(member("a"))


def test_too_many_bytes_are_refused_even_if_they_are_the_same_ones(opened, monkeypatch):
    monkeypatch.setattr(root_tar, "LARGEST", 100_000)
    names = [member(f"b{number}", tarfile.LNKTYPE, linkname="a") for number in range(100)]
    with pytest.raises(FileError, match="Root file system root.tar must have at most 100000 bytes"):
        opened(member("a", data=bytes(2000)), *names, contents={})


def test_a_small_file_that_unpacks_to_much_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(root_tar, "LARGEST", 1 << 20)
    path = tmp_path / "bomb.tar.gz"
    path.write_bytes(gzip.compress(bytes(2 << 20)))
    with (
        pytest.raises(FileError, match="bomb.tar.gz must unpack to at most 1048576 bytes"),
        open_root_tar(path, tmp_path),
    ):
        pass


def test_a_compressed_tar_is_the_same_as_a_plain_one(tmp_path):
    plain = write_tar(tmp_path / "plain.tar")
    packed = tmp_path / "packed.tgz"
    data = plain.read_bytes()
    packed.write_bytes(gzip.compress(data[:1000]) + gzip.compress(data[1000:]))
    with open_root_tar(packed, tmp_path) as root:
        assert root.read(f"usr/bin/python{PYTHON}") == elf()


BROKEN = {
    "empty": (b"", "must be a tar"),
    "text": (b"no tar at all" * 100, "must be a tar"),
    "cut": (None, "must be"),
    "cut gzip": (gzip.compress(bytes(100_000))[:50], "must be whole"),
    "no gzip": (b"\x1f\x8b" + bytes(100), "must be whole"),
    "gzip of text": (gzip.compress(b"text" * 1000), "must be a tar"),
    "zeros": (bytes(10240), "must have 1 to"),
}


@pytest.mark.parametrize(("data", "what"), BROKEN.values(), ids=BROKEN)
def test_what_is_no_whole_tar_is_refused(data, what, tmp_path):
    path = tmp_path / "root.tar"
    if data is None:
        data = write_tar(path, [member("big", data=bytes(5000))]).read_bytes()[:3000]
    path.write_bytes(data)
    with (
        pytest.raises(FileError, match=f"Root file system .*root.tar {what}") as error,
        open_root_tar(path, tmp_path) as root,
    ):
        list(root.entries())
    assert "docker export" in error.value.hint


def test_a_file_that_is_missing_or_a_folder_is_refused(tmp_path):
    for path in (tmp_path / "none.tar", tmp_path):
        with pytest.raises(FileError, match="cannot be read: "):
            open_and_close(path, tmp_path)


def test_python_is_found_by_its_version(opened):
    machine = platform.machine()
    assert opened(use=lambda root: root.python(PYTHON, machine)) == f"/usr/bin/python{PYTHON}"
    local = {f"usr/local/bin/python{PYTHON}": elf(), "usr/bin/python3.2": elf()}
    assert (
        opened(use=lambda root: root.python(PYTHON, machine), contents=local)
        == f"/usr/local/bin/python{PYTHON}"
    )


def test_another_python_is_refused(opened):
    with pytest.raises(WorkspaceError) as error:
        opened(use=lambda root: root.python("3.11", platform.machine()), contents=files("3.9"))
    assert str(error.value) == "Base root.tar must have Python 3.11, as Gatecast runs here, not 3.9"
    assert error.value.hint == "Run Gatecast with the base's version of Python, or give another base."
    with pytest.raises(WorkspaceError, match="not none in usr/bin or usr/local/bin"):
        opened(use=lambda root: root.python("3.11", platform.machine()), contents={"x": b""})


@pytest.mark.parametrize("program", [elf(machine=40), b"#!/bin/sh\n", b""])
def test_a_base_for_another_machine_is_refused(program, opened):
    with pytest.raises(WorkspaceError, match=f"must be for {platform.machine()}, like this machine"):
        opened(use=lambda root: root.python(PYTHON, platform.machine()), contents=files(program=program))


def test_tini_is_found_or_not(opened):
    assert opened(use=lambda root: root.init()) == "/usr/bin/tini"
    assert opened(use=lambda root: root.init(), contents={"sbin/tini": elf()}) == "/sbin/tini"
    assert opened(use=lambda root: root.init(), contents={"opt/tini": elf()}) == ""


def test_symbols_are_those_of_the_c_and_cpp_libraries(opened):
    libraries = {
        "lib/x86_64-linux-gnu/libc.so.6": b"\0GLIBC_2.36\0GLIBC_2.2.5\0GLIBC_PRIVATE\0",
        "usr/lib64/libstdc++.so.6.0.30": b"xGLIBCXX_1\0\0GLIBCXX_3.4.30\0\0CXXABI_1.3\0",
        "opt/lib/libc.so.6": b"\0GLIBC_9.9\0",
    }
    found = opened(use=lambda root: root.symbols(), contents=libraries)
    assert found == {"GLIBC_2.36", "GLIBC_2.2.5", "GLIBCXX_3.4.30", "CXXABI_1.3"}


def test_reading_a_tar_writes_nothing_but_its_scratch(tmp_path):
    path = write_tar(tmp_path / "root.tar")
    before = sorted(tmp_path.iterdir())
    with open_root_tar(path, tmp_path) as root:
        assert io.BytesIO(root.read("usr/bin/tini")).read() == elf()
    assert sorted(tmp_path.iterdir()) == before
