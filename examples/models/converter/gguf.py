# SPDX-License-Identifier: MIT
"""Writes GGUF files: keys, descriptions of tensors, data. A tensor comes in pieces, so that memory never holds more than one of them."""
import os
import struct

import numpy as np

from .checkpoint import Refused, to_float

VERSION, ALIGNMENT, PIECE = 3, 32, 1 << 22      # PIECE: elements that are encoded at once
U32, I32, F32, BOOL, STRING, ARRAY = 4, 5, 6, 7, 8, 9
BLOCK = 32                                      # elements in a block of Q8_0


# ---- types of tensors: float32 in, bytes out; None: a value does not fit ----

def encode_f32(x):
    return x.astype('<f4')


def encode_f16(x):
    with np.errstate(over='ignore'):
        y = x.astype('<f2')
    return None if np.isinf(y).any() else y


def encode_bf16(x):
    bits = x.view(np.uint32)
    y = (bits + 0x7fff + (bits >> 16 & 1) >> 16).astype('<u2')        # to nearest, ties to even
    return None if (y & 0x7f80 == 0x7f80).any() else y


def encode_q8_0(x):
    """Blocks of 32: the largest magnitude becomes 127, halves go away from zero; all in float32, and the scale becomes a half at the end."""
    x = x.reshape(-1, BLOCK)
    d = np.abs(x).max(axis=1) / np.float32(127)
    with np.errstate(divide='ignore', over='ignore'):
        inverse = np.where(d > np.float32(2.0 ** -128), np.float32(1) / d, np.float32(0))      # below, the inverse is not finite, and the scale becomes 0
        half = d.astype('<f2')
    t = x * inverse[:, None]
    blocks = np.empty(len(x), np.dtype([('d', '<f2'), ('q', 'i1', BLOCK)]))
    blocks['d'] = half
    blocks['q'] = np.where(t < 0, t - np.float32(0.5), t + np.float32(0.5)).astype(np.int32)
    return None if np.isinf(half).any() else blocks


# name -> number in the file, elements and bytes of a block, encoder, general.file_type
TYPES = {
    'F32': (0, 1, 4, encode_f32, 0),
    'F16': (1, 1, 2, encode_f16, 1),
    'BF16': (30, 1, 2, encode_bf16, 32),
    'Q8_0': (8, BLOCK, 34, encode_q8_0, 7),
}


class Tensor:
    """What is written under a name. `shape` is in C order, the fastest dimension last. read() yields arrays that together are its elements in order; their
    last dimension is never torn, so it holds whole blocks. `source` is how errors call it."""

    def __init__(self, name, kind, shape, read, source):
        self.name, self.kind, self.shape, self.read, self.source = name, kind, shape, read, source

    def n_bytes(self):
        _, block, size, _, _ = TYPES[self.kind]
        return int(np.prod(self.shape, dtype=object)) // block * size

    def encoded(self):
        for array in self.read():
            for piece in pieces(array):
                x = np.ascontiguousarray(to_float(piece)).reshape(-1)
                if not np.isfinite(x).all():
                    raise Refused(f'{self.source}: holds a value that is not finite')
                data = TYPES[self.kind][3](x)
                if data is None:
                    raise Refused(f'{self.source}: {np.abs(x).max():g} does not fit into {self.kind}; take --type BF16 or F32')
                yield data.tobytes()


def pieces(array):
    """Views of up to PIECE elements, in order; the last dimension stays whole."""
    if array.size <= PIECE or array.ndim < 2:
        yield array
    elif array.shape[0] == 1:
        yield from pieces(array[0])
    else:
        step = max(1, PIECE * array.shape[0] // array.size)
        for first in range(0, array.shape[0], step):
            yield from pieces(array[first:first + step])


# ---- keys ----

def text_bytes(text):
    data = text.encode('utf-8', 'surrogateescape')      # pieces of a vocabulary may be any bytes
    return struct.pack('<Q', len(data)) + data


SCALARS = {U32: '<I', I32: '<i', F32: '<f', BOOL: '<B'}


def value_bytes(kind, value):
    if kind == STRING:
        return text_bytes(value)
    return struct.pack(SCALARS[kind], value)


def pair(key, kind, value):
    """One key with its value; a list becomes an array."""
    if isinstance(value, list):
        return text_bytes(key) + struct.pack('<IIQ', ARRAY, kind, len(value)) + b''.join(value_bytes(kind, x) for x in value)
    return text_bytes(key) + struct.pack('<I', kind) + value_bytes(kind, value)


def padding(n):
    return bytes(-n % ALIGNMENT)


def header(keys, tensors):
    infos, offset = [], 0
    for t in tensors:
        infos.append(text_bytes(t.name) + struct.pack(f'<I{len(t.shape)}QIQ', len(t.shape), *reversed(t.shape), TYPES[t.kind][0], offset))
        offset += t.n_bytes() + -t.n_bytes() % ALIGNMENT
    data = b'GGUF' + struct.pack('<IQQ', VERSION, len(tensors), len(keys)) + b''.join(pair(*row) for row in keys) + b''.join(infos)
    return data + padding(len(data))


def write(path, keys, tensors, progress):
    """The file appears under its name when it is whole; until then, and if anything fails, what was there stays. Returns its size."""
    part = f'{path}.{os.getpid()}.part'
    try:
        with open(part, 'xb') as file:
            file.write(header(keys, tensors))
            for i, t in enumerate(tensors):
                progress(i, len(tensors), t.name)
                written = sum(file.write(data) for data in t.encoded())
                if written != t.n_bytes():
                    raise AssertionError(f'{t.name}: {written} bytes written, {t.n_bytes()} promised')
                file.write(padding(written))
            file.flush()
            os.fsync(file.fileno())
            size = file.tell()
        os.replace(part, path)
        return size
    except OSError as error:
        raise Refused(f'{path}: {error.strerror}') from None
    finally:
        if os.path.exists(part):
            os.unlink(part)
