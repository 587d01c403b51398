#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes the seed files of the fuzz target state: make_corpus_state.py FOLDER

Right states of every kind; then one wrong number at every place of the head, and of what stands in front of keys and values. How they are read: state.c.
"""
import pathlib
import struct
import sys

PATCH, PATCH_HEAD, NUMBER, CUT, GROW, FLIP = range(6)
PICTURES, ONE, OTHER_SHAPE = 1, 2, 4
# Offsets in the head: magic, version, numerics, identity, generation, bytes, cache type, whole, sequences, pictures, pages.
HEAD = {'magic': 0, 'version': 8, 'numerics': 12, 'identity': 16, 'generation': 24, 'bytes': 32, 'type': 40, 'whole': 44, 'sequences': 48, 'pictures': 52, 'pages': 56}
# Behind it: the first sequence's number, pictures, length, tokens before a shift, tokens (70 in state.c), pages (2).
BODY = {'seq': 0, 'entries': 4, 'length': 8, 'own': 16, 'token': 24, 'last_token': 24 + 4 * 69, 'page': 24 + 4 * 70, 'second_page': 24 + 4 * 71, 'next': 24 + 4 * 72, 'next_length': 24 + 4 * 72 + 8}


def number(at, index, wide):
    return struct.pack('<BHBB', NUMBER, at, index, wide)


def head(at, value):
    return struct.pack('<BBB', PATCH_HEAD, at, len(value)) + value


def main(folder):
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    files = {f'right_{flags}': bytes([flags]) for flags in range(8)}
    for flags in (0, PICTURES, PICTURES | ONE):
        for name, at in BODY.items():
            for index in (5, 17, 23):
                files[f'{name}_{index}_{flags}'] = bytes([flags]) + number(at, index, name in ('length', 'own', 'next_length'))
        for at in range(312, 408, 12):         # entries of pictures and their keys
            files[f'entry_{at}_{flags}'] = bytes([flags]) + number(at, 3 + at % 5, 1)
    for name, at in HEAD.items():
        for value in (b'\0\0\0\0', b'\x01\0\0\0', b'\x02\0\0\0', b'\xff\xff\xff\xff', b'\xff' * 8):
            files[f'head_{name}_{len(value)}_{value[0]}'] = bytes([PICTURES]) + head(at, value)
    for n in (0, 1, 15, 16, 17, 23, 24, 25, 300, 313, 1000, 4000):
        files[f'cut_{n}'] = bytes([PICTURES]) + struct.pack('<BH', CUT, n)
    files['grown'] = bytes([0]) + struct.pack('<BHB', GROW, 0, 200)
    files['other_numbers'] = bytes([0]) + b''.join(struct.pack('<BHB', FLIP, at, 0x7f) for at in range(1000, 2000, 50))
    for name, data in files.items():
        (folder / name).write_bytes(data)
    print(f'{len(files)} files')


if __name__ == '__main__':
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
