#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Makes a tiny GGUF model of the architecture llama: make_tiny.py OUT.gguf

The weights are random (a fixed seed: the same file every time), so what it generates is random words. It shows that everything
runs, from file to text, where no trained model is at hand. Needs nothing but Python's own library.
"""
import array
import math
import random
import struct
import sys

N_EMBD, N_HEAD, N_HEAD_KV, D_HEAD, N_FF, N_LAYER, N_CTX = 64, 4, 2, 16, 192, 2, 1024
ALIGNMENT = 32
U32, I32, F32, BOOL, STRING, ARRAY = 4, 5, 6, 7, 8, 9               # value types of GGUF
NORMAL, UNKNOWN, CONTROL, BYTE = 1, 2, 3, 6                         # kinds of tokens

WORDS = """a all alone and antenna as at away battery before below beyond blue book bright by camera carries charge checks clock cold
comet crater crew dark dawn deep dish dust earth engine every far field finds flies follows for from garden ground hears her hill holds
home horizon hours ice in into is it keeps lander lands large leaves light listens little long looks machine map mast measures memory
message moon morning motor mountain moves near never new night north of old on once one orbit out over panel pilot planet quiet radio
reads red repairs rests returns ridge rise river robot rock rolls rover sand sees sends sensor shadow ship signal silent sky sleeps slow
small snow solar sound south star station still stone storm sun system that the then there they through time to tower turns under until
up upon valley very voice waits wakes warm watches wheel when where wide wind window with work works world writes""".split()


def vocabulary():
    """(text, score, kind) of every token: three special ones, the 256 bytes, letters and signs, whole words."""
    rows = [('<unk>', 0.0, UNKNOWN), ('<s>', 0.0, CONTROL), ('</s>', 0.0, CONTROL)]
    rows += [(f'<0x{byte:02X}>', 0.0, BYTE) for byte in range(256)]
    rows += [(text, -1000.0 - i, NORMAL) for i, text in enumerate('▁abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.,')]
    rows += [('▁' + word, -float(i), NORMAL) for i, word in enumerate(WORDS)]
    return rows


def tensors(vocab):
    """(name, shape with the fastest dimension first, values) of every tensor."""
    rng = random.Random(20)

    def matrix(n_in, n_out):
        return array.array('f', (rng.gauss(0.0, 1.0 / math.sqrt(n_in)) for _ in range(n_in * n_out)))

    ones = array.array('f', [1.0] * N_EMBD)
    # Only whole words have output weights: everything else has the logit 0 and is hardly ever chosen.
    output = array.array('f')
    for text, _, kind in vocab:
        word = kind == NORMAL and len(text) > 1
        output.extend(rng.gauss(0.0, 0.6) if word else 0.0 for _ in range(N_EMBD))
    rows = [('token_embd.weight', (N_EMBD, len(vocab)), array.array('f', (rng.gauss(0.0, 1.0) for _ in range(N_EMBD * len(vocab))))),
            ('output_norm.weight', (N_EMBD,), ones), ('output.weight', (N_EMBD, len(vocab)), output)]
    q, kv = N_HEAD * D_HEAD, N_HEAD_KV * D_HEAD
    for layer in range(N_LAYER):
        for name, *shape in (('attn_q', N_EMBD, q), ('attn_k', N_EMBD, kv), ('attn_v', N_EMBD, kv), ('attn_output', q, N_EMBD),
                             ('ffn_gate', N_EMBD, N_FF), ('ffn_up', N_EMBD, N_FF), ('ffn_down', N_FF, N_EMBD)):
            rows.append((f'blk.{layer}.{name}.weight', shape, matrix(*shape)))
        rows += [(f'blk.{layer}.{name}.weight', (N_EMBD,), ones) for name in ('attn_norm', 'ffn_norm')]
    return rows


def text_bytes(text):
    data = text.encode()
    return struct.pack('<Q', len(data)) + data


SCALARS = {U32: lambda v: struct.pack('<I', v), I32: lambda v: struct.pack('<i', v), F32: lambda v: struct.pack('<f', v),
           BOOL: lambda v: struct.pack('<B', v), STRING: text_bytes}


def pair(key, kind, value):
    """One key-value pair; a list becomes an array."""
    if isinstance(value, list):
        return text_bytes(key) + struct.pack('<IIQ', ARRAY, kind, len(value)) + b''.join(map(SCALARS[kind], value))
    return text_bytes(key) + struct.pack('<I', kind) + SCALARS[kind](value)


def gguf(vocab):
    pairs = [pair(*row) for row in (
        ('general.architecture', STRING, 'llama'), ('general.name', STRING, 'tiny, random weights'), ('general.file_type', U32, 0),
        ('llama.context_length', U32, N_CTX), ('llama.embedding_length', U32, N_EMBD), ('llama.block_count', U32, N_LAYER),
        ('llama.feed_forward_length', U32, N_FF), ('llama.attention.head_count', U32, N_HEAD),
        ('llama.attention.head_count_kv', U32, N_HEAD_KV), ('llama.attention.layer_norm_rms_epsilon', F32, 1e-5),
        ('llama.rope.dimension_count', U32, D_HEAD), ('tokenizer.ggml.model', STRING, 'llama'),
        ('tokenizer.ggml.tokens', STRING, [text for text, _, _ in vocab]), ('tokenizer.ggml.scores', F32, [score for _, score, _ in vocab]),
        ('tokenizer.ggml.token_type', I32, [kind for _, _, kind in vocab]), ('tokenizer.ggml.unknown_token_id', U32, 0),
        ('tokenizer.ggml.bos_token_id', U32, 1), ('tokenizer.ggml.eos_token_id', U32, 2), ('tokenizer.ggml.add_bos_token', BOOL, 1))]
    infos, data = [], bytearray()
    rows = tensors(vocab)
    for name, shape, values in rows:
        infos.append(text_bytes(name) + struct.pack(f'<I{len(shape)}QIQ', len(shape), *shape, 0, len(data)))
        if sys.byteorder == 'big':
            values = values[:]
            values.byteswap()
        data += values.tobytes()
        data += bytes(-len(data) % ALIGNMENT)
    head = b'GGUF' + struct.pack('<IQQ', 3, len(rows), len(pairs)) + b''.join(pairs) + b''.join(infos)
    return head + bytes(-len(head) % ALIGNMENT) + bytes(data)


def main(out):
    vocab = vocabulary()
    data = gguf(vocab)
    with open(out, 'wb') as file:
        file.write(data)
    print(f'{out}: {len(data)} bytes, {N_LAYER} layers, {len(vocab)} tokens, random weights')


if __name__ == '__main__':
    if len(sys.argv) != 2:
        sys.exit('usage: make_tiny.py OUT.gguf')
    main(sys.argv[1])
