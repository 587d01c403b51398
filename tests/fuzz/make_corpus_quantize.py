#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes the seed files of the fuzz target quantize: make_corpus_quantize.py FOLDER

Small models, right ones into every kind of type and one of each kind of wrong one: numbers that are none, rows that are no whole blocks, layers without end, splits,
importance of the wrong length. How they are read: quantize.c; files are made by make_corpus.py.
"""
import importlib.util
import pathlib
import random
import struct
import sys

HERE = pathlib.Path(__file__).parent
spec = importlib.util.spec_from_file_location('gguf', HERE / 'make_corpus.py')
gguf = importlib.util.module_from_spec(spec)
spec.loader.exec_module(gguf)
F32, F16, Q4_0, Q8_0, Q6_K, BF16 = 0, 1, 2, 8, 14, 30
PURE, IMPORTANCE, OVERRIDE, THREADS = 1, 2, 4, 8
TARGETS = 22


def numbers(n, seed=1):
    rng = random.Random(seed)
    return struct.pack(f'<{n}f', *(rng.uniform(-1, 1) for _ in range(n)))


def model(tensors, pairs=(), **how):
    """tensors: (name, shape, type, data)."""
    infos, data = [], b''
    for name, shape, kind, content in tensors:
        data += b'\0' * (-len(data) % 32)
        infos.append(gguf.tensor(name, shape, kind, len(data)))
        data += content
    pairs = [gguf.pair('general.architecture', gguf.STRING, 'llama'), gguf.pair('llama.block_count', gguf.U32, 2), *pairs]
    return gguf.file(pairs, infos, data + b'\0' * (-len(data) % 32), **how)


def matrix(name, width=256, rows=2, seed=1):
    return (name, [width, rows], F32, numbers(width * rows, seed))


USUAL = [matrix('token_embd.weight'), matrix('blk.0.attn_v.weight'), matrix('blk.0.ffn_down.weight'), matrix('blk.1.ffn_down.weight'), ('blk.0.attn_norm.weight', [4], F32, numbers(4)),
         matrix('output.weight')]
NAN, INF = struct.pack('<f', float('nan')), struct.pack('<f', float('-inf'))


def main(folder):
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    usual = model(USUAL)
    files = {'empty': b'', 'two': b'\0\0'}
    files |= {f'usual_{target}': bytes([target, 0]) + usual for target in range(TARGETS)}
    wrong = {
        'nan': model([('w.weight', [32, 1], F32, NAN + numbers(31))]), 'inf': model([('w.weight', [256, 1], F32, numbers(255) + INF)]),
        'large': model([('w.weight', [32, 1], F32, struct.pack('<f', 3e38) * 32)]), 'small': model([('w.weight', [256, 1], F32, struct.pack('<f', 1e-45) * 256)]),
        'zeros': model([('w.weight', [256, 1], F32, bytes(1024))]), 'odd': model([matrix('w.weight', 33, 2), matrix('v.weight', 32, 3), matrix('u.weight', 1, 1)]),
        'halves': model([('w.weight', [256, 1], F16, bytes([0, 60] * 256)), ('v.weight', [256, 1], BF16, bytes([128, 63] * 256))]),
        'quantized': model([('w.weight', [32, 2], Q8_0, bytes([0, 20] + [7] * 32) * 2), ('v.weight', [256, 1], Q6_K, bytes(210))]), 'stack': model([('blk.0.ffn_down_exps.weight', [32, 2, 3], F32, numbers(192))]),
        'pictures': model([matrix('v.blk.0.attn_q.weight', 64), matrix('mm.0.weight', 64)]), 'far_layer': model([matrix('blk.1023.attn_v.weight'), matrix('blk.99999999999999999999.attn_v.weight')]),
        'names': model([matrix('blk..weight', 32), matrix('blk.0.weight', 32), matrix('.weight', 32)]), 'none': model([]), 'cut': usual[:-700], 'short': usual[:90],
        'split': model(USUAL, [gguf.pair('split.count', gguf.U16, 2), gguf.pair('split.no', gguf.U16, 0)]),
        'keys': model(USUAL[:1], [gguf.pair('general.file_type', gguf.STRING, 'x'), gguf.pair('llama.attention.head_count', gguf.U32, 0), gguf.pair('llama.expert_count', gguf.U32, 0xffffffff)]),
        'alignment': gguf.file([gguf.pair('general.alignment', gguf.U32, 64)], [gguf.tensor('w.weight', [32])], numbers(32), alignment=64),
        'importance': model([matrix('w.weight', 32), ('w.weight.in_sum2', [32, 1], F32, struct.pack('<f', 1.5) * 32), ('w.weight.counts', [1, 1], F32, struct.pack('<f', 2))]),
        'importance_wrong': model([matrix('w.weight', 32), ('w.weight.in_sum2', [31, 1], F32, NAN * 31), ('w.weight.counts', [1, 1], F32, struct.pack('<f', 0))]),
    }
    for i, (name, data) in enumerate(wrong.items()):
        files[f'{name}_a'] = bytes([i, IMPORTANCE if 'importance' in name else i % 2 * PURE | i % 3 * OVERRIDE]) + data
        files[f'{name}_b'] = bytes([i + 11, THREADS | IMPORTANCE]) + data
    for name, data in files.items():
        (folder / name).write_bytes(data)
    print(f'{len(files)} files')


if __name__ == '__main__':
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
