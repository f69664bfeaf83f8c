import dataclasses

import pytest

from gatecast.errors import NotFoundError
from gatecast.isa import ARCHITECTURES, architecture


def test_architectures_are_found_by_name():
    assert architecture("tiny") is ARCHITECTURES["tiny"]
    assert {"software", "tiny", "tiny_split", "ecp5_85f", "kv260", "a10", "u250"} <= set(ARCHITECTURES)
    assert all(name == value.name for name, value in ARCHITECTURES.items())


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(NotFoundError, match="^Architecture 'vu9p' is not known$") as caught:
        architecture("vu9p")
    assert caught.value.hint.startswith("Known are a10, a10_bfp5, a10_bfp6, ecp5_85f,")


def test_the_digest_is_of_binding_fields_only():
    tiny = architecture("tiny")
    assert dataclasses.replace(tiny, name="other", clock_mhz=5, lanes=8).digest == tiny.digest
    assert dataclasses.replace(tiny, vectors=65).digest != tiny.digest
    assert len(tiny.digest) == 16


def test_narrow_builds_allow_narrow_formats_only():
    assert (architecture("a10_bfp5").max_weight_bits, architecture("a10_bfp5").max_activation_bits) == (5, 5)
    assert architecture("kv260_bfp6").max_weight_bits == 6
