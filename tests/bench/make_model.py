#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""make_model.py - writes a GGUF file with the shape of a released Llama model and random weights: for measuring, not for reading.

    make_model.py OUT [--shape llama-3.2-1b] [--type Q4_K_M]

Weights are random valid blocks (finite scales of a sensible size); the vocabulary is a list of numbered pieces."""
import argparse
import struct

import numpy as np

SHAPES = {  # n_embd, n_layer, n_head, n_head_kv, n_ff, n_vocab, tied
    "llama-3.2-1b": (2048, 16, 32, 8, 8192, 128256, True),
    "llama-3.2-3b": (3072, 28, 24, 8, 8192, 128256, True),
    "llama-3.1-8b": (4096, 32, 32, 8, 14336, 128256, False),
    "tiny": (256, 2, 4, 2, 512, 1024, True),
}
TYPES = {  # id, elements, bytes, offsets of f16 scales, largest |value| of a block for scale 1
    "F16": (1, 1, 2, (), 1), "Q4_0": (2, 32, 18, (0,), 8), "Q8_0": (8, 32, 34, (0,), 127),
    "Q4_K": (12, 256, 144, (0, 2), 63 * 15), "Q6_K": (14, 256, 210, (208,), 127 * 32), "F32": (0, 1, 4, (), 1),
}


def type_of(name, layer, n_layer, mix):
    """The usual mix of Q4_K_M: output, half of the value and down projections in Q6_K; other mixes are one type."""
    if mix != "Q4_K_M":
        return mix
    more = layer is None or layer < n_layer // 8 or layer >= 7 * n_layer // 8 or (layer - n_layer // 8) % 3 == 2
    return "Q6_K" if layer is None or (name in ("attn_v", "ffn_down") and more) else "Q4_K"


def random_rows(rng, kind, n_in, n_out):
    """Bytes of n_out rows; values have a deviation of roughly 1 / sqrt(n_in)."""
    _, elements, size, scales, largest = TYPES[kind]
    deviation = n_in ** -0.5
    if kind in ("F32", "F16"):
        return rng.standard_normal((n_out, n_in), dtype=np.float32).__mul__(deviation).astype("<f4" if kind == "F32" else "<f2").tobytes()
    blocks = rng.integers(0, 256, (n_out * n_in // elements, size), dtype=np.uint8)
    for at in scales:
        d = (rng.random(len(blocks), dtype=np.float32) + 0.5) * (2 * deviation / largest)
        blocks[:, at:at + 2] = d.astype("<f2").view(np.uint8).reshape(-1, 2)
    return blocks.tobytes()


def text(s):
    b = s.encode()
    return struct.pack("<Q", len(b)) + b


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("out")
    p.add_argument("--shape", default="llama-3.2-1b", choices=SHAPES)
    p.add_argument("--type", default="Q4_K_M", choices=["Q4_K_M", *TYPES])
    a = p.parse_args()
    n_embd, n_layer, n_head, n_kv, n_ff, n_vocab, tied = SHAPES[a.shape]
    d = n_embd // n_head
    tensors = [("token_embd.weight", type_of("token_embd", None, n_layer, a.type), (n_embd, n_vocab)), ("output_norm.weight", None, (n_embd,))]
    if not tied:
        tensors.append(("output.weight", type_of("output", None, n_layer, a.type), (n_embd, n_vocab)))
    for i in range(n_layer):
        tensors += [(f"blk.{i}.attn_norm.weight", None, (n_embd,)), (f"blk.{i}.ffn_norm.weight", None, (n_embd,))]
        for name, shape in (("attn_q", (n_embd, n_embd)), ("attn_k", (n_embd, n_kv * d)), ("attn_v", (n_embd, n_kv * d)), ("attn_output", (n_embd, n_embd)),
                            ("ffn_gate", (n_embd, n_ff)), ("ffn_up", (n_embd, n_ff)), ("ffn_down", (n_ff, n_embd))):
            tensors.append((f"blk.{i}.{name}.weight", type_of(name, i, n_layer, a.type), shape))

    kv = [("general.architecture", 8, text("llama")), ("general.name", 8, text(f"random {a.shape} {a.type}"))]
    for key, value in (("context_length", 131072), ("embedding_length", n_embd), ("block_count", n_layer), ("feed_forward_length", n_ff),
                       ("attention.head_count", n_head), ("attention.head_count_kv", n_kv)):
        kv.append(("llama." + key, 4, struct.pack("<I", value)))
    kv += [("llama.attention.layer_norm_rms_epsilon", 6, struct.pack("<f", 1e-5)), ("llama.rope.freq_base", 6, struct.pack("<f", 5e5)),
           ("tokenizer.ggml.model", 8, text("llama"))]
    pieces = ["<unk>", "<s>", "</s>"] + [f"<0x{i:02X}>" for i in range(256)] + [f"\u2581{i:x}" for i in range(n_vocab - 259)]
    kv += [("tokenizer.ggml.tokens", 9, struct.pack("<IQ", 8, n_vocab) + b"".join(map(text, pieces))),
           ("tokenizer.ggml.scores", 9, struct.pack("<IQ", 6, n_vocab) + np.arange(0, -n_vocab, -1, dtype="<f4").tobytes()),
           ("tokenizer.ggml.token_type", 9, struct.pack("<IQ", 5, n_vocab) + np.array([2, 3, 3] + [6] * 256 + [1] * (n_vocab - 259), dtype="<i4").tobytes())]

    rng = np.random.default_rng(7)
    with open(a.out, "wb") as f:
        f.write(b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(kv)))
        for key, kind, value in kv:
            f.write(text(key) + struct.pack("<I", kind) + value)
        offset = 0
        for name, kind, shape in tensors:
            code, elements, size, _, _ = TYPES[kind or "F32"]
            f.write(text(name) + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *shape) + struct.pack("<IQ", code, offset))
            offset += (int(np.prod(shape)) // elements * size + 31) // 32 * 32
        f.write(bytes(-f.tell() % 32))
        for name, kind, shape in tensors:
            if kind is None:
                f.write(np.ones(shape, "<f4").tobytes())
            else:
                for first in range(0, shape[1], 4096):
                    f.write(random_rows(rng, kind, shape[0], min(4096, shape[1] - first)))
            f.write(bytes(-f.tell() % 32))


if __name__ == "__main__":
    main()
