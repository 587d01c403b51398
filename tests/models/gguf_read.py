# SPDX-License-Identifier: MIT
"""Reads a GGUF file into keys and arrays, for tests: read(path) -> ({key: value}, {name: (type number, array)}). Shapes are in C order; quantized and BF16
tensors come as bytes."""
import struct

import numpy as np

SCALARS = {0: 'B', 1: 'b', 2: 'H', 3: 'h', 4: 'I', 5: 'i', 6: 'f', 7: '?', 10: 'Q', 11: 'q', 12: 'd'}
FLOATS, BLOCKS = {0: '<f4', 1: '<f2'}, {30: (1, 2), 8: (32, 34)}


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, form, n=1):
        values = struct.unpack_from(f'<{n}{form}', self.data, self.at)
        self.at += struct.calcsize(f'<{n}{form}')
        return values

    def text(self):
        n, = self.take('Q')
        self.at += n
        return self.data[self.at - n:self.at].decode('utf-8', 'surrogateescape')

    def value(self, kind):
        if kind == 8:
            return self.text()
        if kind != 9:
            return self.take(SCALARS[kind])[0]
        inner, = self.take('I')
        n, = self.take('Q')
        return [self.text() for _ in range(n)] if inner == 8 else list(self.take(SCALARS[inner], n))


def read(path):
    with open(path, 'rb') as file:
        r = Reader(file.read())
    assert r.data[:4] == b'GGUF'
    r.at = 4
    version, n_tensors, n_keys = *r.take('I'), *r.take('Q', 2)
    assert version == 3
    keys, infos, tensors = {}, [], {}
    for _ in range(n_keys):
        key = r.text()
        assert key not in keys, key
        keys[key] = r.value(*r.take('I'))
    for _ in range(n_tensors):
        name = r.text()
        n, = r.take('I')
        infos.append((name, r.take('Q', n)[::-1], *r.take('I'), *r.take('Q')))
    start = r.at + -r.at % 32
    for name, shape, kind, offset in infos:
        n = int(np.prod(shape))
        block, size = BLOCKS.get(kind, (1, np.dtype(FLOATS.get(kind, 'u1')).itemsize))
        raw = np.frombuffer(r.data, 'u1', n // block * size, start + offset)
        tensors[name] = (kind, raw.view(FLOATS[kind]).reshape(shape) if kind in FLOATS else raw)
    return keys, tensors
