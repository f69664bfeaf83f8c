from pathlib import Path

import pytest

GOLDEN = Path(__file__).parent / "golden"


def pytest_addoption(parser):
    parser.addoption(
        "--update-golden", action="store_true", help="write golden files instead of comparing them"
    )


@pytest.fixture
def golden(request):
    """Compare bytes or text with a file under tests/golden; `--update-golden` writes it."""

    def compare(path, found):
        data = found.encode() if isinstance(found, str) else found
        file = GOLDEN / path
        if request.config.getoption("--update-golden"):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
        assert file.exists(), f"{path} does not exist: run pytest --update-golden"
        assert file.read_bytes() == data, f"{path} differs: run pytest --update-golden if that is meant"

    return compare
