#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes the seed files of the fuzz target gguf: make_corpus.py FOLDER

Small files, right ones and one of each kind of wrong one, so that a fuzzer starts inside every branch and the replay runs through it.
"""
import pathlib
import struct
import sys

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
FORMATS = {U8: 'B', I8: 'b', U16: 'H', I16: 'h', U32: 'I', I32: 'i', F32: 'f', BOOL: 'B', U64: 'Q', I64: 'q', F64: 'd'}


def text(value):
    value = value.encode() if isinstance(value, str) else value
    return struct.pack('<Q', len(value)) + value


def scalar(kind, value):
    return text(value) if kind == STRING else struct.pack('<' + FORMATS[kind], value)


def array(kind, values):
    """Elements of kind ARRAY are bytes made by this function."""
    return struct.pack('<IQ', kind, len(values)) + b''.join(v if kind == ARRAY else scalar(kind, v) for v in values)


def pair(key, kind, value):
    return text(key) + struct.pack('<I', kind) + (value if kind == ARRAY else scalar(kind, value))


def tensor(name, ne, kind=0, offset=0):
    return text(name) + struct.pack('<I', len(ne)) + struct.pack(f'<{len(ne)}Q', *ne) + struct.pack('<IQ', kind, offset)


def file(pairs=(), tensors=(), data=b'', version=3, alignment=32, magic=b'GGUF', n_pairs=None, n_tensors=None):
    head = magic + struct.pack('<IQQ', version, len(tensors) if n_tensors is None else n_tensors, len(pairs) if n_pairs is None else n_pairs)
    head += b''.join(pairs) + b''.join(tensors)
    return head + (b'\0' * (-len(head) % alignment) + data if tensors else b'')


def nested(depth):
    value = array(U8, [1])
    for _ in range(depth - 1):
        value = array(ARRAY, [value])
    return value


ONE = tensor('w', [32])
SCALARS = [pair(f'k{kind}', kind, 'text' if kind == STRING else 1) for kind in (*FORMATS, STRING)]
ARRAYS = [pair(f'a{kind}', ARRAY, array(kind, ['x', '', 'long'] if kind == STRING else [0, 1, 1])) for kind in (*FORMATS, STRING)]
MODEL = [pair('general.architecture', STRING, 'llama'), pair('llama.block_count', U32, 1), pair('tokenizer.ggml.model', STRING, 'llama'),
         pair('tokenizer.ggml.tokens', ARRAY, array(STRING, ['<unk>', '<s>', '</s>', b'\xff\xfe'])),
         pair('tokenizer.ggml.scores', ARRAY, array(F32, [0, 0, 0, -1])), pair('tokenizer.ggml.token_type', ARRAY, array(I32, [2, 3, 3, 1]))]
TYPES = {0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 10: (256, 84), 12: (256, 144), 14: (256, 210),
         24: (1, 1), 26: (1, 4), 30: (1, 2), 39: (32, 17)}


def every_type():
    infos, data = [], b''
    for kind, (values, size) in TYPES.items():
        infos.append(tensor(f't{kind}', [values, 2], kind, len(data)))
        data += bytes(range(256))[:1] * (2 * size)
        data += b'\0' * (-len(data) % 32)
    return file(tensors=infos, data=data)


CORPUS = {
    'empty': b'', 'magic': b'GGU', 'other_magic': file(magic=b'GGML'), 'head_only': file(), 'version_1': file(version=1), 'version_2': file(SCALARS, version=2),
    'version_4': file(version=4), 'big_endian': file(version=3 << 24), 'head_cut': file()[:15], 'many_tensors': file(n_tensors=10**9), 'many_keys': file(n_pairs=10**9),
    'few_tensors': file(n_tensors=2), 'few_keys': file(n_pairs=2),
    'scalars': file(SCALARS), 'arrays': file(ARRAYS), 'model': file(MODEL, [ONE], bytes(128)), 'types': every_type(),
    'nested_2': file([pair('a', ARRAY, array(ARRAY, [array(U32, [7, 8]), array(STRING, ['x']), array(BOOL, [])]))]), 'nested_4': file([pair('a', ARRAY, nested(4))]),
    'nested_5': file([pair('a', ARRAY, nested(5))]), 'nested_1000': file([pair('a', ARRAY, nested(1000))]),
    'key_empty': file([pair('', U32, 1)]), 'key_twice': file([pair('a', U32, 1), pair('b', U8, 1), pair('a', U32, 1)]), 'key_nul': file([pair('a\0b', U32, 1)]),
    'key_binary': file([pair(b'\xff\xfe', U32, 1)]), 'key_length': file([struct.pack('<Q', 2**64 - 1) + b'abc']), 'value_type': file([text('a') + struct.pack('<II', 13, 1)]),
    'bool_2': file([pair('a', BOOL, 2)]), 'bools_2': file([pair('a', ARRAY, array(BOOL, [0, 1, 2]))]), 'string_length': file([text('a') + struct.pack('<IQ', STRING, 2**30) + b'x']),
    'array_count': file([text('a') + struct.pack('<IIQ', ARRAY, U64, 2**61)]), 'array_cut': file([pair('a', ARRAY, array(U32, [1, 2, 3]))])[:-2],
    'array_type': file([text('a') + struct.pack('<IIQ', ARRAY, 99, 1)]), 'string_binary': file([pair('a', STRING, b'\xff\0\xfe')]),
    'alignment_8': file([pair('general.alignment', U32, 8)], [ONE], bytes(128), alignment=8), 'alignment_64': file([pair('general.alignment', I32, 64)], [ONE], bytes(128), alignment=64),
    'alignment_33': file([pair('general.alignment', U32, 33)]), 'alignment_text': file([pair('general.alignment', STRING, '32')]),
    'name_64': file(tensors=[tensor('a' * 64, [32])], data=bytes(128)), 'name_65': file(tensors=[tensor('a' * 65, [32])], data=bytes(128)),
    'name_twice': file(tensors=[ONE, tensor('w', [32], 0, 128)], data=bytes(256)), 'name_nul': file(tensors=[tensor('w\0a', [32])], data=bytes(128)),
    'dims_0': file(tensors=[tensor('w', [])], data=bytes(128)), 'dims_4': file(tensors=[tensor('w', [2, 3, 4, 5])], data=bytes(480)), 'dims_5': file(tensors=[tensor('w', [1] * 5)]),
    'dim_zero': file(tensors=[tensor('w', [32, 0])], data=bytes(128)), 'dims_wrap': file(tensors=[tensor('w', [2**32, 2**32])], data=bytes(128)),
    'bytes_wrap': file(tensors=[tensor('w', [542551296285575072], 8)], data=bytes(128)), 'type_removed': file(tensors=[tensor('w', [32], 4)], data=bytes(128)),
    'type_unknown': file(tensors=[tensor('w', [32], 9999)], data=bytes(128)), 'row_cut': file(tensors=[tensor('w', [31], 2)], data=bytes(128)),
    'offset_odd': file(tensors=[tensor('w', [1], 0, 8)], data=bytes(128)), 'offset_far': file(tensors=[tensor('w', [32], 0, 2**40)], data=bytes(128)),
    'overlap': file(tensors=[ONE, tensor('v', [32], 0, 96)], data=bytes(256)), 'gap': file(tensors=[tensor('v', [32], 0, 256), ONE], data=bytes(384)),
    'data_cut': file(tensors=[ONE], data=bytes(127)),
    'split_first': file(MODEL + [pair('split.no', U16, 0), pair('split.count', U16, 2)], [ONE], bytes(128)), 'split_second': file([pair('split.no', U16, 1), pair('split.count', U16, 2)]),
    'split_text': file([pair('split.count', STRING, '../../x')]),
}


def main(folder):
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in CORPUS.items():
        (folder / name).write_bytes(data)
    print(f'{len(CORPUS)} files')


if __name__ == '__main__':
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
