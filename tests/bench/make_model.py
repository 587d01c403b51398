#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""make_model.py - writes a GGUF file with the shape of a released Llama model and random weights: for measuring, not for reading.

    make_model.py OUT [--shape llama-3.2-1b] [--type Q4_K_M]

Weights are random valid blocks (finite scales of a sensible size); the vocabulary is a list of numbered pieces. Shapes with vision are one-file
Llama 3.2 Vision models: the text in the type that was asked for, the encoder in F16."""
import argparse
import struct

import numpy as np

SHAPES = {  # n_embd, n_layer, n_head, n_head_kv, n_ff, n_vocab, tied
    "llama-3.2-1b": (2048, 16, 32, 8, 8192, 128256, True),
    "llama-3.2-3b": (3072, 28, 24, 8, 8192, 128256, True),
    "llama-3.1-8b": (4096, 32, 32, 8, 14336, 128256, False),
    "llama-3.2-11b-vision": (4096, 40, 32, 8, 14336, 128256, False),
    "llama-4-scout": (5120, 48, 40, 8, 16384, 202048, False),
    "tiny": (256, 2, 4, 2, 512, 1024, True),
    "tiny-vision": (256, 4, 4, 2, 512, 1024, False),
    "tiny-mixture": (256, 2, 4, 2, 512, 1024, False),
    "tiny-llama4": (256, 4, 4, 2, 1024, 1024, False),
}
MIXTURES = {  # experts in place of the dense part: how many, chosen, n_ff, one that is always used (llama4)
    "llama-4-scout": (16, 1, 8192, True),
    "tiny-mixture": (4, 2, 512, False),
    "tiny-llama4": (4, 1, 512, True),
}
VISION = {  # cross-attention layers; width, n_ff, heads, local layers, global layers, tile, patch, tiles, kept layer inputs
    "llama-3.2-11b-vision": (range(3, 40, 5), 1280, 5120, 16, 32, 8, 560, 14, 4, (3, 7, 15, 23, 30)),
    "tiny-vision": (range(1, 4, 2), 160, 320, 4, 2, 1, 56, 14, 4, (0, 1)),
}
LLAMA3_TOKENS = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eom_id|>", "<|eot_id|>"]
TYPES = {  # id, elements, bytes, offsets of f16 scales, largest |value| of a block for scale 1
    "F16": (1, 1, 2, (), 1), "Q4_0": (2, 32, 18, (0,), 8), "Q8_0": (8, 32, 34, (0,), 127),
    "Q4_K": (12, 256, 144, (0, 2), 63 * 15), "Q6_K": (14, 256, 210, (208,), 127 * 32), "F32": (0, 1, 4, (), 1),
}


def type_of(name, layer, n_layer, mix):
    """The usual mix of Q4_K_M: output, half of the value and down projections in Q6_K; other mixes are one type."""
    if mix != "Q4_K_M":
        return mix
    more = layer is None or layer < n_layer // 8 or layer >= 7 * n_layer // 8 or (layer - n_layer // 8) % 3 == 2
    return "Q6_K" if layer is None or (name.startswith(("attn_v", "ffn_down")) and more) else "Q4_K"


def random_rows(rng, kind, n_in, n_out):
    """Bytes of n_out rows of n_in; values have a deviation of roughly 1 / sqrt(n_in)."""
    _, elements, size, scales, largest = TYPES[kind]
    deviation = n_in ** -0.5
    if kind in ("F32", "F16"):
        return rng.standard_normal((n_out, n_in), dtype=np.float32).__mul__(deviation).astype("<f4" if kind == "F32" else "<f2").tobytes()
    blocks = rng.integers(0, 256, (n_out * n_in // elements, size), dtype=np.uint8)
    for at in scales:
        d = (rng.random(len(blocks), dtype=np.float32) + 0.5) * (2 * deviation / largest)
        blocks[:, at:at + 2] = d.astype("<f2").view(np.uint8).reshape(-1, 2)
    return blocks.tobytes()


def vision_tensors(shape, n_embd):
    """Name, type (None: ones), dimensions."""
    _, w, ff, _, local, global_, side, patch, tiles, kept = VISION[shape]
    n_pos = (side // patch) ** 2 + 1
    rows = 1 + sum(tiles // high for high in range(1, tiles + 1))
    out = [("v.patch_embd.weight", "F16", (patch, patch, 3, w)), ("v.class_embd", "F32", (w,)), ("v.position_embd.weight", "F32", (w, n_pos)),
           ("v.tile_position_embd.weight", "F32", (w * n_pos * tiles, rows)), ("v.pre_tile_position_embd.weight", "F32", (w * tiles, rows)),
           ("v.post_tile_position_embd.weight", "F32", (w * tiles, rows)), ("mm.0.weight", "F16", (w * (1 + len(kept)), n_embd)), ("mm.0.bias", "F32", (n_embd,))]
    out += [(f"v.{name}.gate", None, (1,)) for name in ("position_embd", "tile_position_embd", "pre_tile_position_embd", "post_tile_position_embd")]
    norms = ["v.pre_ln", "v.post_ln"]
    for prefix, n in (("v.blk", local), ("v.global.blk", global_)):
        for i in range(n):
            at = f"{prefix}.{i}."
            norms += [at + "attn_norm", at + "ffn_norm"]
            out += [(at + f"{name}.weight", "F16", (w, w)) for name in ("attn_q", "attn_k", "attn_v", "attn_output")]
            out += [(at + "ffn_up.weight", "F16", (w, ff)), (at + "ffn_up.bias", "F32", (ff,)), (at + "ffn_down.weight", "F16", (ff, w)), (at + "ffn_down.bias", "F32", (w,))]
            if prefix == "v.global.blk":
                out += [(at + "attn_gate", None, (1,)), (at + "ffn_gate", None, (1,))]
    for name in norms:
        out += [(name + ".weight", None, (w,)), (name + ".bias", "F32", (w,))]
    return out


def vision_keys(shape):
    cross, w, ff, heads, local, global_, side, patch, tiles, kept = VISION[shape]
    keys = [("mllama.attention.cross_attention_layers", 9, struct.pack(f"<IQ{len(cross)}i", 5, len(cross), *cross)),
            ("mllama.vision.intermediate_layers_indices", 9, struct.pack(f"<IQ{len(kept)}i", 5, len(kept), *kept)),
            ("mllama.vision.attention.layer_norm_epsilon", 6, struct.pack("<f", 1e-5))]
    for key, value in (("block_count", local), ("global.block_count", global_), ("embedding_length", w), ("feed_forward_length", ff), ("attention.head_count", heads),
                       ("image_size", side), ("patch_size", patch), ("max_num_tiles", tiles), ("num_channels", 3)):
        keys.append(("mllama.vision." + key, 4, struct.pack("<I", value)))
    return keys


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
    vision = a.shape in VISION
    experts, used, n_ff_expert, shared = MIXTURES.get(a.shape, (0, 0, 0, False))
    arch = "mllama" if vision else "llama4" if shared else "llama"
    tensors = [("token_embd.weight", type_of("token_embd", None, n_layer, a.type), (n_embd, n_vocab + 8 * vision)), ("output_norm.weight", None, (n_embd,))]
    if not tied:
        tensors.append(("output.weight", type_of("output", None, n_layer, a.type), (n_embd, n_vocab)))
    for i in range(n_layer):
        tensors += [(f"blk.{i}.attn_norm.weight", None, (n_embd,)), (f"blk.{i}.ffn_norm.weight", None, (n_embd,))]
        rows = [("attn_q", (n_embd, n_embd)), ("attn_k", (n_embd, n_kv * d)), ("attn_v", (n_embd, n_kv * d)), ("attn_output", (n_embd, n_embd))]
        if experts:
            tensors.append((f"blk.{i}.ffn_gate_inp.weight", "F32", (n_embd, experts)))
        for suffix, ff, many in [("_exps", n_ff_expert, (experts,)), ("_shexp", n_ff_expert, ())][:1 + shared] if experts else [("", n_ff, ())]:
            rows += [("ffn_gate" + suffix, (n_embd, ff, *many)), ("ffn_up" + suffix, (n_embd, ff, *many)), ("ffn_down" + suffix, (ff, n_embd, *many))]
        for name, shape in rows:
            kind = type_of(name, i, n_layer, a.type)
            if vision and i in VISION[a.shape][0] and name.startswith("attn_"):
                name = f"cross_attn_{name[5]}_proj"
            tensors.append((f"blk.{i}.{name}.weight", kind, shape))
        if vision and i in VISION[a.shape][0]:
            tensors += [(f"blk.{i}.cross_attn_{x}_norm.weight", None, (d,)) for x in "qk"] + [(f"blk.{i}.cross_attn_{x}_gate", None, (1,)) for x in ("attn", "mlp")]
    if vision:
        tensors += vision_tensors(a.shape, n_embd)

    kv = [("general.architecture", 8, text(arch)), ("general.name", 8, text(f"random {a.shape} {a.type}"))]
    for key, value in (("context_length", 131072), ("embedding_length", n_embd), ("block_count", n_layer), ("feed_forward_length", n_ff),
                       ("attention.head_count", n_head), ("attention.head_count_kv", n_kv)):
        kv.append((f"{arch}." + key, 4, struct.pack("<I", value)))
    if experts:
        numbers = [("expert_count", experts), ("expert_used_count", used), ("expert_feed_forward_length", n_ff_expert), ("interleave_moe_layer_step", 1)]
        kv += [(f"{arch}." + key, 4, struct.pack("<I", value)) for key, value in numbers[:4 if shared else 2]]
    kv += [(f"{arch}.attention.layer_norm_rms_epsilon", 6, struct.pack("<f", 1e-5)), (f"{arch}.rope.freq_base", 6, struct.pack("<f", 5e5)),
           ("tokenizer.ggml.model", 8, text("llama"))]
    control = LLAMA3_TOKENS if vision else []
    pieces = ["<unk>", "<s>", "</s>"] + [f"<0x{i:02X}>" for i in range(256)] + [f"\u2581{i:x}" for i in range(n_vocab - 259 - len(control))] + control
    kinds = [2, 3, 3] + [6] * 256 + [1] * (n_vocab - 259 - len(control)) + [3] * len(control)
    if vision:
        kv += vision_keys(a.shape)
        pieces.append("<|image|>")
        kinds.append(3)
    n = len(pieces)
    kv += [("tokenizer.ggml.tokens", 9, struct.pack("<IQ", 8, n) + b"".join(map(text, pieces))),
           ("tokenizer.ggml.scores", 9, struct.pack("<IQ", 6, n) + np.arange(0, -n, -1, dtype="<f4").tobytes()),
           ("tokenizer.ggml.token_type", 9, struct.pack("<IQ", 5, n) + np.array(kinds, dtype="<i4").tobytes())]

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
                f.write(bytes(-f.tell() % 32))
                continue
            n_in = shape[0] if "_exps." in name else int(np.prod(shape[:max(1, len(shape) - 1)]))
            n_out = int(np.prod(shape)) // n_in
            step = max(1, min(4096, 2 ** 25 // n_in))
            for first in range(0, n_out, step):
                f.write(random_rows(rng, kind, n_in, min(step, n_out - first)))
            f.write(bytes(-f.tell() % 32))


if __name__ == "__main__":
    main()
