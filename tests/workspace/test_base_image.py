import tarfile

import pytest
from tests.workspace.root_files import elf, files, member, write_tar

from gatecast.errors import DownloadError, FileError, WorkspaceError
from gatecast.workspace import base_image, build_base, find_base
from gatecast.workspace.base_image import Base, read_base
from gatecast.workspace.distributions import PYTHON
from gatecast.workspace.layer_cache import LayerCache
from gatecast.workspace.own_files import native_extension

SUITE = base_image.SUITES.get(PYTHON)

needs_debian = pytest.mark.skipif(SUITE is None, reason="no release of Debian has this Python")


@pytest.fixture
def cache(tmp_path):
    return LayerCache(tmp_path / "cache")


def contents(base):
    """Members of a base by name."""
    with tarfile.open(base.cached.path) as tar:
        return {member.name: member for member in tar}


@pytest.fixture
def tool(tmp_path, monkeypatch):
    """Put a script in the place of mmdebstrap; it is given the tar of Debian's packages."""
    (tmp_path / "bin").mkdir()
    packages = {
        **files(),
        "usr/bin/dash": elf(),
        "bin/tar": elf(),
        "usr/sbin/dpkg": elf(),
        "usr/share/man/man1/x": b"x",
        "usr/share/doc/tini/copyright": b"licence",
        "usr/share/doc/tini/changelog": b"x",
        "usr/share/ca-certificates/mozilla/b.crt": b"B\n",
        "usr/share/ca-certificates/mozilla/a.crt": b"A",
        "etc/os-release": b"Debian",
        "var/lib/dpkg/status": b"x",
    }
    source = write_tar(tmp_path / "debian.tar", [member("dev/null", tarfile.CHRTYPE)], contents=packages)

    def tool(script):
        path = tmp_path / "bin" / "mmdebstrap"
        path.write_text(f'#!/bin/sh\necho "$*" > {tmp_path}/arguments\n{script.format(source=source)}\n')
        path.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
        return tmp_path / "arguments"

    return tool


COPY = 'for last do case "$last" in *.tar) cp {source} "$last";; esac; done'


@needs_debian
def test_a_base_of_debian_is_what_the_recipe_leaves(tool, cache):
    arguments = tool(COPY)
    assert find_base(cache) is None
    base = build_base(cache=cache)
    assert find_base(cache) == base
    assert (base.name, base.python, base.init) == (
        f"debian:{SUITE}",
        f"/usr/bin/python{PYTHON}",
        "/usr/bin/tini",
    )
    found = contents(base)
    assert [name for name, info in found.items() if info.isreg()] == [
        "etc/group",
        "etc/os-release",
        "etc/passwd",
        "etc/ssl/certs/ca-certificates.crt",
        "lib/x86_64-linux-gnu/libc.so.6",
        f"usr/bin/python{PYTHON}",
        "usr/bin/tini",
        "usr/share/ca-certificates/mozilla/a.crt",
        "usr/share/ca-certificates/mozilla/b.crt",
        "usr/share/doc/tini/copyright",
    ]
    assert found["usr/bin/python3"].linkname == f"python{PYTHON}"
    assert (found["tmp"].mode, found["home/nonroot"].uid) == (0o1777, 65532)
    words = arguments.read_text().split()
    assert words[:1] == ["--variant=extract"]
    assert f"python{PYTHON}-minimal" in words[2]
    assert SUITE in words


@needs_debian
def test_authorities_are_also_in_one_file(tool, cache):
    tool(COPY)
    with tarfile.open(build_base(cache=cache).cached.path) as tar:
        assert tar.extractfile("etc/ssl/certs/ca-certificates.crt").read() == b"A\nB\n"
        assert b"nonroot:x:65532:65532:" in tar.extractfile("etc/passwd").read()


@needs_debian
def test_a_base_is_the_same_each_time(tool, cache):
    tool(COPY)
    assert build_base(cache=cache) == build_base(cache=cache)


@needs_debian
def test_a_mirror_is_handed_on(tool, cache):
    arguments = tool(COPY)
    build_base("http://mirror.example/debian", cache)
    assert arguments.read_text().split()[-1] == "http://mirror.example/debian"


@needs_debian
def test_what_the_tool_says_is_said_when_it_fails(tool, cache):
    tool("echo 'I: fetching' >&2; echo 'E: no such host' >&2; exit 25")
    with pytest.raises(DownloadError) as error:
        build_base(cache=cache)
    assert str(error.value) == "Packages of Debian for a base could not be fetched: E: no such host"
    assert "--mirror URL" in error.value.hint
    assert find_base(cache) is None
    assert not cache.folder.exists()


@needs_debian
def test_a_tool_that_is_missing_is_said(monkeypatch, cache):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(WorkspaceError, match="Program mmdebstrap must be installed to build a base") as error:
        build_base(cache=cache)
    assert "apt install mmdebstrap" in error.value.hint


def test_a_python_that_debian_does_not_have_is_said(monkeypatch, cache):
    monkeypatch.setattr(base_image, "PYTHON", "3.12")
    with pytest.raises(WorkspaceError) as error:
        build_base(cache=cache)
    assert str(error.value) == "Python must be of a version that Debian has, not 3.12"
    assert error.value.hint.startswith("Of Debian, bookworm has 3.11 and trixie has 3.13.")
    assert find_base(cache) is None


def test_a_base_that_is_given_is_kept_whole_with_places_to_mount(tmp_path, cache):
    path = write_tar(
        tmp_path / "mine.tar",
        [member("bin/sh", data=elf(), mode=0o755), member("tmp", tarfile.DIRTYPE, mode=0o700)],
    )
    base = read_base(cache, path)
    found = contents(base)
    assert (base.name, base.init) == ("mine.tar", "/usr/bin/tini")
    assert found["bin/sh"].mode == 0o755
    assert {"dev", "proc", "run", "sys", "etc"} <= set(found)
    assert found["tmp"].mode == 0o700, "what is there stays"


def test_a_base_that_was_read_before_is_taken_from_the_cache(tmp_path, cache, monkeypatch):
    path = write_tar(tmp_path / "mine.tar")
    base = read_base(cache, path)
    monkeypatch.setattr(cache, "add", None)
    assert read_base(cache, path) == base
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "5")
    with pytest.raises(TypeError):
        read_base(cache, path)


def test_order_and_times_in_a_tar_do_not_matter(tmp_path, cache):
    one = read_base(cache, write_tar(tmp_path / "one.tar", [member("x", mtime=1), member("y", mtime=2)]))
    two = read_base(cache, write_tar(tmp_path / "two.tar", [member("y", mtime=3), member("x", mtime=4)]))
    assert one.cached.layer == two.cached.layer
    assert one.cached.path != two.cached.path


def test_a_bad_base_is_not_kept(tmp_path, cache):
    for bad in ([member("/etc/x")], [member("usr/bin", data=b"no folder")]):
        with pytest.raises(FileError):
            read_base(cache, write_tar(tmp_path / "bad.tar", bad))
    assert not cache.folder.exists() or list(cache.folder.iterdir()) == []


def test_an_extension_that_needs_newer_libraries_is_refused(tmp_path, cache):
    base = read_base(cache, write_tar(tmp_path / "mine.tar"))
    base.check_extension(native_extension())
    newer = tmp_path / "_native.so"
    newer.write_bytes(b"\0GLIBC_9.99\0GLIBC_2.2.5\0")
    with pytest.raises(WorkspaceError) as error:
        base.check_extension(newer)
    assert str(error.value) == (
        "Base mine.tar must have libraries as new as those _native.so was built with, but lacks GLIBC_9.99"
    )


def test_records_are_values():
    assert Base.__dataclass_params__.frozen
