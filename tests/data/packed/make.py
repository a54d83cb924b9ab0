"""Writes tiny GPTQ and AWQ checkpoints with float64 logits: `python3 make.py`, with numpy 2.

Each is a one-layer Llama whose linear layers are codes, zeros and scales drawn at random, packed as AutoGPTQ and AutoAWQ
pack them. What they mean is computed from the unpacked numbers, w = scale * (code - zero), never from the packed ones.
"""

import json
import pathlib
import struct

import numpy as np

HERE = pathlib.Path(__file__).parent
N_EMBD, N_FF, N_VOCAB, N_HEADS, N_KV_HEADS, HEAD_DIM, EPS = 128, 160, 16, 4, 2, 32, 1e-5
AWQ_ORDER = [0, 2, 4, 6, 1, 3, 5, 7]
LAYERS = {
    "self_attn.q_proj": (N_HEADS * HEAD_DIM, N_EMBD),
    "self_attn.k_proj": (N_KV_HEADS * HEAD_DIM, N_EMBD),
    "self_attn.v_proj": (N_KV_HEADS * HEAD_DIM, N_EMBD),
    "self_attn.o_proj": (N_EMBD, N_HEADS * HEAD_DIM),
    "mlp.gate_proj": (N_FF, N_EMBD),
    "mlp.up_proj": (N_FF, N_EMBD),
    "mlp.down_proj": (N_EMBD, N_FF),
}
CHECKPOINTS = {
    # Asymmetric, zeros stored less one; the last group of down_proj is half a group.
    "gptq": dict(quant_method="gptq", bits=4, group_size=64, desc_act=False, sym=False, checkpoint_format="gptq"),
    # Symmetric, zeros stored as they are, one group for a whole row.
    "gptq-v2": dict(quant_method="gptq", bits=4, group_size=-1, desc_act=False, sym=True, checkpoint_format="gptq_v2"),
    "awq": dict(quant_method="awq", bits=4, group_size=32, zero_point=True, version="gemm"),
}


def pack(values, axis, order=range(8)):
    """Eight numbers along `axis` in one int32, the first of `order` in the lowest bits."""
    values = np.moveaxis(values.astype(np.uint32), axis, -1)
    words = sum(values[..., i::8] << np.uint32(4 * nibble) for nibble, i in enumerate(order))
    return np.ascontiguousarray(np.moveaxis(words, -1, axis)).view(np.int32)


def linear(random, rows, columns, config):
    """A layer's weights (rows, columns) in float64, the same with scale * zero rounded to f16, as a block of codes with
    a scale and a minimum holds them, and its tensors as the checkpoint has them."""
    group = columns if config["group_size"] == -1 else config["group_size"]
    n_groups = -(-columns // group)
    codes = random.integers(0, 16, (rows, columns))
    symmetric = config.get("sym", False)
    zeros = np.full((rows, n_groups), 8) if symmetric else random.integers(1, 16, (rows, n_groups))
    scales = random.uniform(0.5, 1.5, (rows, n_groups)) / 4.6 / np.sqrt(columns)
    scales = scales.astype(np.float16)
    of_column = np.arange(columns) // group
    wide = scales.astype(np.float64)
    weights = wide[:, of_column] * (codes - zeros[:, of_column])
    held = wide[:, of_column] * codes - (wide * zeros).astype(np.float16).astype(np.float64)[:, of_column]
    held = weights if symmetric else held
    if config["quant_method"] == "awq":
        return weights, held, {
            "qweight": pack(codes.T, 1, AWQ_ORDER),
            "qzeros": pack(zeros.T, 1, AWQ_ORDER),
            "scales": np.ascontiguousarray(scales.T),
        }
    less = 1 if config["checkpoint_format"] == "gptq" else 0
    return weights, held, {
        "qweight": pack(codes.T, 0),
        "qzeros": pack(zeros.T - less, 1),
        "scales": np.ascontiguousarray(scales.T),
        "g_idx": of_column.astype(np.int32),
        # AutoGPTQ writes biases of zeros where the model has none.
        "bias": np.zeros(rows, np.float16),
    }


def rms_norm(x, weight):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + EPS) * weight


def rope(x):
    half = HEAD_DIM // 2
    angles = np.arange(len(x))[:, None] * 10000.0 ** (-np.arange(half) / half)
    cos, sin = np.cos(angles)[:, None], np.sin(angles)[:, None]
    a, b = x[..., :half], x[..., half:]
    return np.concatenate([a * cos - b * sin, b * cos + a * sin], -1)


def logits(ids, embd, norms, output, w):
    x = embd[ids]
    h = rms_norm(x, norms["input_layernorm"])
    heads = lambda name, n: (h @ w[name].T).reshape(len(ids), n, HEAD_DIM)
    q, k = rope(heads("self_attn.q_proj", N_HEADS)), rope(heads("self_attn.k_proj", N_KV_HEADS))
    v = heads("self_attn.v_proj", N_KV_HEADS)
    k, v = (np.repeat(t, N_HEADS // N_KV_HEADS, 1) for t in (k, v))
    scores = np.einsum("qhd,khd->hqk", q, k) / np.sqrt(HEAD_DIM)
    scores = np.where(np.tri(len(ids), dtype=bool), scores, -np.inf)
    p = np.exp(scores - scores.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    attention = np.einsum("hqk,khd->qhd", p, v).reshape(len(ids), -1)
    x = x + attention @ w["self_attn.o_proj"].T
    h = rms_norm(x, norms["post_attention_layernorm"])
    gate = h @ w["mlp.gate_proj"].T
    x = x + (gate / (1 + np.exp(-gate)) * (h @ w["mlp.up_proj"].T)) @ w["mlp.down_proj"].T
    return (rms_norm(x, norms["norm"]) @ output.T)[-1]


def save(path, tensors):
    names = {"<i4": "I32", "<f2": "F16"}
    header, at = {}, 0
    for name, t in tensors.items():
        end = at + t.nbytes
        header[name] = dict(dtype=names[t.dtype.str], shape=list(t.shape), data_offsets=[at, end])
        at = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(t.tobytes() for t in tensors.values()))


def make(name, config, seed):
    random = np.random.default_rng(seed)
    half = lambda *shape, spread=1.0: (random.standard_normal(shape) * spread).astype(np.float16)
    embd, output = half(N_VOCAB, N_EMBD), half(N_VOCAB, N_EMBD, spread=N_EMBD**-0.5 * 2)
    norms = {part: 1 + half(N_EMBD, spread=0.1) for part in ("input_layernorm", "post_attention_layernorm", "norm")}
    tensors = {"model.embed_tokens.weight": embd, "lm_head.weight": output, "model.norm.weight": norms["norm"]}
    weights, held = {}, {}
    for part, (rows, columns) in LAYERS.items():
        weights[part], held[part], packed = linear(random, rows, columns, config)
        tensors |= {f"model.layers.0.{part}.{kind}": tensor for kind, tensor in packed.items()}
    for part in ("input_layernorm", "post_attention_layernorm"):
        tensors[f"model.layers.0.{part}.weight"] = norms[part]
    folder = HERE / name
    folder.mkdir(exist_ok=True)
    save(folder / "model.safetensors", tensors)
    llama = dict(
        model_type="llama", hidden_size=N_EMBD, intermediate_size=N_FF, vocab_size=N_VOCAB, num_hidden_layers=1,
        num_attention_heads=N_HEADS, num_key_value_heads=N_KV_HEADS, max_position_embeddings=128, rms_norm_eps=EPS,
        rope_theta=10000.0, tie_word_embeddings=False, quantization_config=config,
    )  # fmt: skip
    (folder / "config.json").write_text(json.dumps(llama, indent=1) + "\n")
    # Every row's product with one vector tells a wrong code, order, zero or scale.
    dots = {part: (w @ (1.5 + np.sin(np.arange(1, w.shape[1] + 1)))).round(6).tolist() for part, w in held.items()}
    cases = []
    for n in (1, 9, 40):
        ids = random.integers(0, N_VOCAB, n)
        wide = [t.astype(np.float64) for t in (embd, output)]
        last = logits(ids, wide[0], {k: v.astype(np.float64) for k, v in norms.items()}, wide[1], weights)
        cases.append(dict(ids=ids.tolist(), last_logits=last.round(7).tolist()))
    (folder / "golden.json").write_text(json.dumps(dict(cases=cases, row_dots=dots)) + "\n")


for seed, (name, config) in enumerate(CHECKPOINTS.items()):
    make(name, config, seed)
