"""Writes FORMAT.bin for each quantised weight format: random blocks, then the f32 weights that they decode to.

usage: make.py        (needs: numpy gguf==0.19.0)

The PyPI package `gguf` decodes ggml's formats; q4_g128, which is ours, is decoded by its definition. Scales and minima
are random f16 numbers, among them zeros of both signs, subnormals, negative and large ones; all else is random bytes.
"""

from pathlib import Path

import gguf
import numpy as np
from gguf.quants import dequantize

N_BLOCKS = 16
# Bytes of a block, and where it holds f16 numbers.
FORMATS = {
    "q4_0": (18, [0]),
    "q4_1": (20, [0, 2]),
    "q5_0": (22, [0]),
    "q5_1": (24, [0, 2]),
    "q8_0": (34, [0]),
    "q4_k": (144, [0, 2]),
    "q5_k": (176, [0, 2]),
    "q6_k": (210, [208]),
    "q4_g128": (66, [0]),
}
SPECIAL = [0x0000, 0x8000, 0x0001, 0x8001, 0x03FF, 0x83FF, 0x0400, 0x7BFF, 0xFBFF]


def decode(name, blocks):
    if name != "q4_g128":
        kind = gguf.GGMLQuantizationType[name.upper()]
        return dequantize(blocks, kind)
    scale = np.ascontiguousarray(blocks[:, :2]).view(np.float16).astype(np.float32)
    parts = blocks[:, 2:].reshape(-1, 4, 16)
    codes = np.concatenate([parts & 15, parts >> 4], axis=2).reshape(-1, 128)
    return scale * (codes.astype(np.float32) - np.float32(8))


for seed, (name, (n_bytes, halves)) in enumerate(FORMATS.items()):
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 256, (N_BLOCKS, n_bytes), dtype=np.uint8)
    for k, at in enumerate(halves):
        values = rng.integers(0, 0x7C00, N_BLOCKS) | rng.integers(0, 2, N_BLOCKS) << 15
        # The second number of a block is special where the first is not.
        values[k * len(SPECIAL) % N_BLOCKS :][: len(SPECIAL)] = SPECIAL[: N_BLOCKS - k * len(SPECIAL) % N_BLOCKS]
        blocks[:, at : at + 2] = values.astype("<u2").view(np.uint8).reshape(-1, 2)
    weights = np.asarray(decode(name, blocks), dtype="<f4")
    assert np.isfinite(weights).all()
    (Path(__file__).parent / f"{name}.bin").write_bytes(blocks.tobytes() + weights.tobytes())
