#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes the seed files of the fuzz target sampler_options: make_corpus_sampler_options.py FOLDER

One for each step with usual parameters, with none, and with wrong ones; chains of many; histories that repeat themselves; rows with impossible tokens, equal ones and ones
that are no logits. How they are read: sampler_options.c.
"""
import pathlib
import struct
import sys

NAMES = ['temp', 'dynatemp', 'top-k', 'top-p', 'min-p', 'typical', 'top-n-sigma', 'xtc', 'mirostat', 'mirostat-v2', 'penalties', 'dry', 'logit-bias']
INF = float('inf')
USUAL = {'temp': [0.8], 'dynatemp': [1, 0.5, 2], 'top-k': [20], 'top-p': [0.9, 2], 'min-p': [0.05, 1], 'typical': [0.7, 3], 'top-n-sigma': [1], 'xtc': [0.5, 0.1, 1], 'mirostat': [3, 0.2, 50],
         'mirostat-v2': [3, 0.2], 'penalties': [16, 1.3, 0.1, 0.2], 'dry': [0.8, 1.75, 1, 60], 'logit-bias': [3, 2, 5, -INF, 7, -1]}
WRONG = {'temp': [float('nan')], 'top-k': [1.5], 'xtc': [2], 'penalties': [1e9], 'dry': [1, 0.5], 'logit-bias': [1e6, 1], 'mirostat': [5, 0.1, 0], 'dynatemp': [1, -1]}
EXTREME = {'temp': [1e30], 'dynatemp': [1e30, 1e30, 1000], 'penalties': [100, 1e6, -1e6, 1e6], 'dry': [1e30, 1e30, 1, 64], 'mirostat': [1000, 1000, 2], 'mirostat-v2': [1000, 1000], 'top-n-sigma': [1e30],
           'logit-bias': [0, 1e30, 1, -1e300]}


def number(x):
    return b'\xff' + struct.pack('<d', x)


def step(name, params):
    return bytes([0, NAMES.index(name), len(params)]) + b''.join(map(number, params))


def row(n, seed):
    return b'\2' + bytes((i * 37 + seed * 11) % 240 for i in range(n))


def tokens(ids):
    return bytes([1, len(ids), *ids])


def body(n):
    text = tokens([1, 2, 3, 4, 1, 2, 3, 5, 1, 2, 3])
    return text + row(n, 1) + b'\3\3' + tokens([7, 7, 7, 7]) + row(n, 2) + b'\3' + b'\2' + bytes([120] * n) + b'\3' + b'\2' + bytes([240 if i % 3 else 200 - i % 7 for i in range(n)]) + b'\3\3'


def main(folder):
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    n = 24
    head = struct.pack('<H', n - 1)
    files = {'empty': b'', 'greedy': head + body(n), 'one_token': struct.pack('<H', 0) + row(1, 1) + b'\3'}
    files |= {f'usual_{name}': head + step(name, params) + body(n) for name, params in USUAL.items()}
    files |= {f'bare_{name}': head + step(name, []) + body(n) for name in NAMES}
    files |= {f'wrong_{name}': head + step(name, params) + body(n) for name, params in WRONG.items()}
    files |= {f'extreme_{name}': head + step(name, params) + step('temp', [0.5]) + body(n) for name, params in EXTREME.items()}
    files['all'] = head + b''.join(step(name, params) for name, params in USUAL.items()) + body(n)
    files['all_backwards'] = head + b''.join(step(name, params) for name, params in reversed(USUAL.items())) + body(n)
    files['too_many'] = head + step('temp', [0.99]) * 33 + body(n)
    files['no_logits'] = head + step('top-k', [5]) + b'\2\xff\0\0\xc0\x7f' + bytes(n - 1) + b'\2\xff\0\0\x80\x7f' + bytes(n - 1) + b'\2' + b'\xf0' * n + body(n)
    files['wide'] = struct.pack('<H', 299) + step('typical', [0.5]) + step('mirostat', [2]) + b''.join(row(300, k) for k in range(6))
    files['forbidden'] = struct.pack('<H', 1) + step('logit-bias', [0, -INF, 1, -INF]) + b'\2\1\2'
    for name, data in files.items():
        (folder / name).write_bytes(data)
    print(f'{len(files)} files')


if __name__ == '__main__':
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
