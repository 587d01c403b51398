# SPDX-License-Identifier: MIT
"""Variants of a GGUF file for tests: one key more, or the numbers of a tensor changed. Reads files that are right; nothing is checked."""
import struct

SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}     # bytes of a value, by type
STRING, ARRAY, F32 = 8, 9, 0
ALIGNMENT = 32


class File:
    def __init__(self, data):
        self.data = bytearray(data)
        self.at = 4
        self.version, self.n_tensors, self.n_keys = self.take('<IQQ')
        for _ in range(self.n_keys):
            self.text()
            self.skip(self.take('<I')[0])
        self.keys_end = self.at
        self.tensors = {}
        for _ in range(self.n_tensors):
            name = self.text()
            n_dims, = self.take('<I')
            dims = self.take(f'<{n_dims}Q')
            self.tensors[name] = (dims, *self.take('<IQ'))
        self.header_end = self.at
        self.data_at = -(-self.at // ALIGNMENT) * ALIGNMENT

    def take(self, form):
        values = struct.unpack_from(form, self.data, self.at)
        self.at += struct.calcsize(form)
        return values

    def text(self):
        n, = self.take('<Q')
        self.at += n
        return self.data[self.at - n:self.at].decode()

    def skip(self, kind):
        if kind == STRING:
            self.text()
        elif kind == ARRAY:
            inner, n = self.take('<IQ')
            if inner in SIZES:
                self.at += n * SIZES[inner]
            else:
                for _ in range(n):
                    self.skip(inner)
        else:
            self.at += SIZES[kind]


def with_key(data, key, kind, value):
    """The file with one pair more; `value` as it lies in a file."""
    f = File(data)
    head = bytes(f.data[:f.keys_end]) + struct.pack('<Q', len(key)) + key.encode() + struct.pack('<I', kind) + value + bytes(f.data[f.keys_end:f.header_end])
    head = head[:16] + struct.pack('<Q', f.n_keys + 1) + head[24:]
    return head + bytes(-len(head) % ALIGNMENT) + bytes(f.data[f.data_at:])


def with_numbers(data, wanted, change):
    """The file with change(number) for each number of the F32 tensors whose name `wanted` accepts."""
    f = File(data)
    n_changed = 0
    for name, (dims, kind, offset) in f.tensors.items():
        if not wanted(name):
            continue
        assert kind == F32, name
        count = 1
        for d in dims:
            count *= d
        form, at = f'<{count}f', f.data_at + offset
        struct.pack_into(form, f.data, at, *(change(v) for v in struct.unpack_from(form, f.data, at)))
        n_changed += 1
    assert n_changed, 'no such tensor'
    return bytes(f.data)
