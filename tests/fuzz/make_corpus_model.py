#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes the seed files of the fuzz target model: make_corpus_model.py FOLDER

Each is a list of edits as model.c reads them: models of every kind and one wrong thing of every kind.
"""
import pathlib
import re
import struct
import sys

HERE = pathlib.Path(__file__).parent
SOURCE = (HERE / 'model.c').read_text()
EDITS = re.search(r'enum \{ (PUT_NUMBER.*), EDITS \};', SOURCE).group(1).split(', ')
EXPERTS, TIED, SHARED, PICTURES, TWO_FILES, SECOND = 1, 2, 4, 8, 16, 32
U8, U32, I32, F32, BOOL, STRING, U64 = 0, 4, 5, 6, 7, 8, 10
FORMATS = {U8: 'B', U32: 'I', I32: 'i', F32: 'f', BOOL: 'B', U64: 'Q'}


def listed(name):
    """The strings or numbers of a table of model.c."""
    body = re.search(r'static const [\w *]+ ' + name + r'\[\] = \{(.*?)\};', SOURCE, re.S).group(1)
    return re.findall(r'"([^"]+)"', body) or [w.strip() for w in body.split(',') if w.strip()]


KEYS, NAMES, SIZES = listed('keys'), listed('names'), listed('sizes')
# In the order in which the test model has them.
DENSE = ['token_embd', 'attn_norm', 'attn_q', 'attn_k', 'attn_v', 'attn_output', 'ffn_norm', 'ffn_gate', 'ffn_up', 'ffn_down', 'output_norm', 'output']
# And those of the model that takes pictures.
PARTS = ['attn_norm', 'attn_q', 'attn_k', 'attn_v', 'attn_output', 'ffn_norm', 'ffn_gate', 'ffn_up', 'ffn_down']
CROSS = ['attn_norm', 'cross_attn_q_proj', 'cross_attn_k_proj', 'cross_attn_v_proj', 'cross_attn_o_proj', 'cross_attn_q_norm', 'cross_attn_k_norm', 'cross_attn_attn_gate',
         'cross_attn_mlp_gate', 'ffn_norm', 'ffn_gate', 'ffn_up', 'ffn_down']
LAYER = ['attn_norm.weight', 'attn_norm.bias', 'attn_q', 'attn_k', 'attn_v', 'attn_output', 'ffn_norm.weight', 'ffn_norm.bias', 'ffn_up.weight', 'ffn_up.bias', 'ffn_down.weight',
         'ffn_down.bias']
TABLES = [f'v.{name}position_embd.{part}' for name in ('', 'tile_', 'pre_tile_', 'post_tile_') for part in ('weight', 'gate')]
SEEING = (['token_embd', 'rope_freqs'] + [f'blk.0.{name}' for name in PARTS] + [f'blk.1.{name}' for name in CROSS] + ['output_norm', 'output', 'v.patch_embd', 'v.class_embd'] + TABLES
          + ['v.pre_ln.weight', 'v.pre_ln.bias', 'v.post_ln.weight', 'v.post_ln.bias'] + [f'v.blk.0.{name}' for name in LAYER]
          + [f'v.global.blk.0.{name}' for name in LAYER + ['attn_gate', 'ffn_gate']] + ['mm.0.weight', 'mm.0.bias'])


def edit(what, tensor=0, data=b''):
    return bytes([EDITS.index(what), tensor]) + data


def number(key, kind, value):
    return edit('PUT_NUMBER', 0, bytes([KEYS.index(key), kind]) + struct.pack('<' + FORMATS[kind], value))


def word(key, value):
    return edit('PUT_TEXT', 0, bytes([KEYS.index(key), len(value)]) + value.encode())


def no_key(index):
    return edit('DROP_KEY', 0, bytes([index]))


def array(key, kind, values):
    items = [struct.pack('<' + FORMATS[kind], v) if kind in FORMATS else bytes([len(v.encode())]) + v.encode() for v in values]
    return edit('PUT_ARRAY', 0, bytes([KEYS.index(key), kind, len(values)]) + b''.join(items))


def shape(kind, dims):
    return bytes([kind, len(dims) - 1]) + bytes(SIZES.index(str(d)) for d in dims)


def reshape(tensor, kind, dims, names=DENSE):
    return edit('RESHAPE', names.index(tensor), shape(kind, dims))


def add(name, kind, dims):
    return edit('ADD_TENSOR', 0, bytes([NAMES.index(name)]) + shape(kind, dims))


def patch(tensor, at, data, names=DENSE):
    return edit('PATCH_TENSOR', names.index(tensor), at.to_bytes(3, 'little') + bytes([len(data) - 1]) + data.ljust(4, b'\0'))


LLAMA = 'llama.'
MODELS = {
    'right': b'', 'experts': bytes([EXPERTS]), 'tied': bytes([TIED]), 'shared': bytes([SHARED]), 'experts_shared': bytes([EXPERTS | SHARED]),
}
LISTS = {
    'heads': number(LLAMA + 'attention.head_count', U32, 2) + number(LLAMA + 'attention.head_count_kv', U32, 1) + number(LLAMA + 'rope.dimension_count', U32, 16), 'heads_array': array(LLAMA + 'attention.head_count', U32, [4]),
    'layers': number(LLAMA + 'block_count', U32, 2), 'no_layers': number(LLAMA + 'block_count', U32, 0), 'long': number(LLAMA + 'context_length', U32, 2**32 - 1),
    'negative': number(LLAMA + 'feed_forward_length', I32, -1), 'huge': number(LLAMA + 'embedding_length', U64, 2**63), 'epsilon': number(LLAMA + 'attention.layer_norm_rms_epsilon', F32, float('nan')),
    'yarn': word(LLAMA + 'rope.scaling.type', 'yarn') + number(LLAMA + 'rope.scaling.factor', F32, 4.0) + number(LLAMA + 'rope.scaling.original_context_length', U32, 64),
    'linear': word(LLAMA + 'rope.scaling.type', 'linear') + number(LLAMA + 'rope.scaling.factor', F32, 2.0), 'base': number(LLAMA + 'rope.freq_base', F32, 5e5),
    'unscaled': word(LLAMA + 'rope.scaling.type', 'none'), 'spiral': word(LLAMA + 'rope.scaling.type', 'spiral'), 'architecture': word('general.architecture', 'mamba'),
    'bpe': word('tokenizer.ggml.model', 'gpt2') + word('tokenizer.ggml.pre', 'gpt-2') + array('tokenizer.ggml.merges', STRING, ['a b', 'b c']),
    'tokens': array('tokenizer.ggml.tokens', STRING, ['a', 'b', '', 'ab', 'a', '</s>', '<0x41>', '\u2581']) + no_key(12) * 2 + reshape('token_embd', 0, [32, 8]) + reshape('output', 0, [32, 8]), 'bos': number('tokenizer.ggml.bos_token_id', U32, 99),
    'scores': array('tokenizer.ggml.scores', F32, [1.0]), 'kinds': array('tokenizer.ggml.token_type', I32, [9] * 12), 'space': number('tokenizer.ggml.add_space_prefix', BOOL, 0),
    'no_key': no_key(3), 'no_tensor': edit('DROP_TENSOR', 5), 'no_output': edit('DROP_TENSOR', 11),
    'rope_freqs': add('rope_freqs.weight', 0, [4]), 'bias': add('blk.0.attn_q.bias', 0, [32]), 'scale': add('blk.0.attn_q.scale', 0, [1]), 'unused': add('x', 0, [32]), 'twice': add('x', 0, [4]) * 2,
    'fused': edit('DROP_TENSOR', 2) * 3 + add('blk.0.attn_qkv.weight', 0, [32, 64]), 'nan': patch('ffn_up', 6, b'\xc0\x7f'), 'inf_norm': patch('output_norm', 6, b'\x80\x7f'),
    'large': patch('ffn_down', 6, b'\x7f\x7f'), 'shape_3d': reshape('ffn_up', 0, [32, 32, 2]), 'shape_wrap': reshape('ffn_up', 0, ['1ull << 32', '1ull << 32']),
    'patched': edit('PATCH_FILE', 0, (16).to_bytes(3, 'little') + bytes([0, 255, 0, 0, 0])), 'cut': edit('CUT', 0, (64).to_bytes(2, 'little')),
}
for kind, name in ((1, 'f16'), (30, 'bf16'), (2, 'q4_0'), (3, 'q4_1'), (6, 'q5_0'), (7, 'q5_1'), (8, 'q8_0'), (20, 'iq4_nl'), (39, 'mxfp4'), (24, 'i8'), (26, 'i32')):
    LISTS['type_' + name] = reshape('ffn_gate', kind, [32, 32]) + patch('ffn_gate', 0, b'\x11\x22\x33\x44') + reshape('attn_q', kind, [32, 32])
# Of the model that takes pictures, in one file and in two.
VISION = 'mllama.vision.'
KEPT, LOOKING = VISION + 'intermediate_layers_indices', 'mllama.attention.cross_attention_layers'
SEEN = {
    'right': b'', 'patch_0': number(VISION + 'patch_size', U32, 0), 'patch_1': number(VISION + 'patch_size', U32, 1), 'patch_larger': number(VISION + 'patch_size', U32, 16),
    'side': number(VISION + 'image_size', U32, 4096), 'tiles': number(VISION + 'max_num_tiles', U32, 64), 'one_tile': number(VISION + 'max_num_tiles', U32, 1),
    'heads': number(VISION + 'attention.head_count', U32, 1), 'heads_3': number(VISION + 'attention.head_count', U32, 3), 'channels': number(VISION + 'num_channels', U32, 1),
    'wide': number(VISION + 'embedding_length', U64, 2**63), 'layers': number(VISION + 'block_count', U32, 2), 'epsilon': number(VISION + 'attention.layer_norm_epsilon', F32, float('inf')),
    'kept': array(KEPT, I32, [1]), 'kept_twice': array(KEPT, I32, [0, 0]), 'kept_none': array(KEPT, I32, []) + reshape('mm.0.weight', 0, [16, 32], SEEING),
    'looking': array(LOOKING, I32, [5]), 'looking_twice': array(LOOKING, I32, [1, 1]), 'looking_nowhere': array(LOOKING, I32, []), 'looking_first': array(LOOKING, I32, [0]),
    'mean': array(VISION + 'image_mean', F32, [0.5, 0.5, 0.5]), 'mean_1': array(VISION + 'image_mean', F32, [0.5]), 'deviation_0': array(VISION + 'image_std', F32, [0.0, 1.0, 1.0]),
    'reordered': array('tokenizer.ggml.eos_token_ids', I32, [1, 2]), 'layout_d': array('mllama.cross_attention_layers', I32, [1]), 'layout_d_tensor': add('v.enc.mmproj.weight', 0, [4]),
    'mixed_names': add('v.blk.0.ln1.weight', 0, [16]), 'no_output': edit('DROP_TENSOR', SEEING.index('output')), 'no_patches': edit('DROP_TENSOR', SEEING.index('v.patch_embd')),
    'no_first': edit('DROP_TENSOR', SEEING.index('v.blk.0.ffn_up.weight')), 'twice': add('v.patch_embd.weight', 0, [4]), 'vocabulary': number('mllama.vocab_size', U32, 11),
    'nan': patch('v.tile_position_embd.weight', 6, b'\xc0\x7f', SEEING), 'nan_gate': patch('v.global.blk.0.attn_gate', 2, b'\xc0\x7f', SEEING),
    'large': patch('mm.0.weight', 6, b'\x7f\x7f', SEEING), 'large_gate': patch('blk.1.cross_attn_attn_gate', 2, b'\x7f\x7f', SEEING), 'f16': reshape('v.blk.0.attn_v', 1, [16, 16], SEEING),
    'flat': reshape('v.patch_embd', 0, [256], SEEING), 'spare_rows': reshape('token_embd', 0, [32, 16], SEEING),
    'patched': edit('PATCH_FILE', 0, (16).to_bytes(3, 'little') + bytes([0, 255, 0, 0, 0])), 'cut': edit('CUT', 0, (64).to_bytes(2, 'little')),
}


def main(folder):
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    seeds = {**{name: data or b'\0' for name, data in MODELS.items()}, **{name: b'\0' + data for name, data in LISTS.items()}}
    for how, flags in (('seeing', PICTURES), ('two_files', PICTURES | TWO_FILES), ('second', PICTURES | TWO_FILES | SECOND | SHARED)):
        seeds.update({f'{how}_{name}': bytes([flags]) + data for name, data in SEEN.items() if how != 'second' or name in ('right', 'patched', 'cut')})
    for name, data in seeds.items():
        (folder / name).write_bytes(data)
    print(f'{len(seeds)} files')


if __name__ == '__main__':
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
