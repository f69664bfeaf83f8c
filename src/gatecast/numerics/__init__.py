"""The arithmetic contract: block floating point that every device computes to the same bits.

`block` is the definition, one value at a time. `array` and `convolution` are the same for arrays. `native`
does in C++, where the extension is here, what a server does for each request.
"""

from .array import (
    blocks_of,
    decode,
    decode_blocks,
    encode,
    encode_pixels,
    in_range,
    is_canonical,
    join_blocks,
    lanes_of,
    pack,
    powers_of_two,
    round_to_format,
    split_blocks,
    unpack,
)
from .block import Block, accumulate, decode_block, dot, encode_block, pack_block
from .convolution import Window, accumulate_blocks, convolve
from .formats import (
    BFP4,
    BFP5,
    BFP6,
    BFP7,
    BFP8,
    BLOCK_SIZE,
    EXPONENT_BIAS,
    EXPONENT_MAX,
    EXPONENT_MIN,
    FORMATS,
    LARGEST,
    MAX_SUM_BLOCKS,
    SMALLEST,
    Format,
    FormatPair,
    parse_format,
    parse_formats,
)
from .operators import (
    NO_LIMIT,
    SCALE_LARGEST,
    SCALE_SMALLEST,
    average_factor,
    clip,
    flush_small,
    hard_sigmoid,
    hard_swish,
    leaky_relu,
    relu,
    require_bounded,
)

try:
    from .native import bounded, encode_map
except ImportError:
    from .array import encode_map
    from .operators import bounded

__all__ = [
    "BFP4",
    "BFP5",
    "BFP6",
    "BFP7",
    "BFP8",
    "BLOCK_SIZE",
    "EXPONENT_BIAS",
    "EXPONENT_MAX",
    "EXPONENT_MIN",
    "FORMATS",
    "LARGEST",
    "MAX_SUM_BLOCKS",
    "NO_LIMIT",
    "SCALE_LARGEST",
    "SCALE_SMALLEST",
    "SMALLEST",
    "Block",
    "Format",
    "FormatPair",
    "Window",
    "accumulate",
    "accumulate_blocks",
    "average_factor",
    "blocks_of",
    "bounded",
    "clip",
    "convolve",
    "decode",
    "decode_block",
    "decode_blocks",
    "dot",
    "encode",
    "encode_block",
    "encode_map",
    "encode_pixels",
    "flush_small",
    "hard_sigmoid",
    "hard_swish",
    "in_range",
    "is_canonical",
    "join_blocks",
    "lanes_of",
    "leaky_relu",
    "pack",
    "pack_block",
    "parse_format",
    "parse_formats",
    "powers_of_two",
    "relu",
    "require_bounded",
    "round_to_format",
    "split_blocks",
    "unpack",
]
