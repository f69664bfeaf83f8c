"""Equality 4: a compiled Program on the reference device gives the bytes of the graph evaluator.

Random networks x random sizes of memories, and so every tiling that these make the compiler choose.
Ref: docs/spec/numerics.md §6.
"""

from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from tests.compiler.running import compiled, run, small
from tests.random_graphs import random_graph, random_input

from gatecast.errors import CompileError
from gatecast.graph import evaluate_values
from gatecast.isa import architecture
from gatecast.quantization import quantize

_FORMATS = ("bfp8", "bfp7", "bfp5/bfp6", "bfp4", "bfp8/bfp5")
_LARGEST_TEXT = 600  # instructions that are worth the time; smaller memories make more of them

sizes = st.one_of(
    st.just(architecture("software")),
    st.just(architecture("tiny")),
    st.builds(
        small,
        blocks=st.integers(20, 300),
        panels=st.integers(5, 60),
        vectors=st.integers(6, 150),
    ),
)


@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow],
)
@given(seed=st.integers(0, 10_000), formats=st.sampled_from(_FORMATS), sizes=sizes)
def test_a_program_gives_the_bytes_of_the_graph(seed, formats, sizes):
    graph = quantize(random_graph(seed, steps=4), formats)
    try:
        sections = compiled(graph, sizes)
    except CompileError as error:
        assert "must fit the" in str(error) or "must have a kernel that fits" in str(error), error
        assume(False)
    assume(sum(len(section.program.text) for section in sections) <= _LARGEST_TEXT)
    expected = evaluate_values(graph, random_input(graph, seed))
    for section in sections:
        for name, found in run(section.program, expected).items():
            assert found.tobytes() == expected[name].reshape(found.shape).tobytes(), name
