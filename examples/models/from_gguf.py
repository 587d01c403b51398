# SPDX-License-Identifier: MIT
"""Reads the model of the box back from its GGUF file, so that training can go on from there: the inverse of what convert.py does for mllama, F32, F16 and Q8_0."""
import re
import struct

import numpy as np
import tokens
import torch
from model import Mllama

U32, I32, F32, BOOL, STRING, ARRAY, U64 = 4, 5, 6, 7, 8, 9, 10
NUMBERS = {0: 'B', 1: 'b', 2: 'H', 3: 'h', U32: 'I', I32: 'i', F32: 'f', BOOL: '?', U64: 'Q', 11: 'q', 12: 'd'}
ALIGNMENT = 32

# A parameter's name, and the tensor's. The first that fits; {} is the number of the layer.
NAMES = [(re.compile(pattern), name) for pattern, name in (
    (r'language_model\.model\.embed_tokens\.weight', 'token_embd.weight'), (r'language_model\.model\.norm\.weight', 'output_norm.weight'),
    (r'language_model\.lm_head\.weight', 'output.weight'), (r'multi_modal_projector\.(\w+)', r'mm.0.\1'),
    (r'language_model\.model\.layers\.(\d+)\.input_layernorm\.weight', r'blk.\1.attn_norm.weight'),
    (r'language_model\.model\.layers\.(\d+)\.post_attention_layernorm\.weight', r'blk.\1.ffn_norm.weight'),
    (r'language_model\.model\.layers\.(\d+)\.self_attn\.o_proj\.weight', r'blk.\1.attn_output.weight'),
    (r'language_model\.model\.layers\.(\d+)\.self_attn\.([qkv])_proj\.weight', r'blk.\1.attn_\2.weight'),
    (r'language_model\.model\.layers\.(\d+)\.cross_attn\.([qk]_norm|[qkvo]_proj)\.weight', r'blk.\1.cross_attn_\2.weight'),
    (r'language_model\.model\.layers\.(\d+)\.(cross_attn_\w+_gate)', r'blk.\1.\2'),
    (r'language_model\.model\.layers\.(\d+)\.mlp\.(gate|up|down)_proj\.weight', r'blk.\1.ffn_\2.weight'),
    (r'vision_model\.class_embedding', 'v.class_embd'), (r'vision_model\.patch_embedding\.weight', 'v.patch_embd.weight'),
    (r'vision_model\.gated_positional_embedding\.embedding', 'v.position_embd.weight'),
    (r'vision_model\.gated_positional_embedding\.tile_embedding\.weight', 'v.tile_position_embd.weight'),
    (r'vision_model\.gated_positional_embedding\.gate', 'v.tile_position_embd.gate'),
    (r'vision_model\.(pre|post)_tile_positional_embedding\.embedding\.weight', r'v.\1_tile_position_embd.weight'),
    (r'vision_model\.(pre|post)_tile_positional_embedding\.gate', r'v.\1_tile_position_embd.gate'),
    (r'vision_model\.layernorm_(pre|post)\.(\w+)', r'v.\1_ln.\2'))]
LAYER = re.compile(r'vision_model\.(global_)?transformer\.layers\.(\d+)\.(.+)')
IN_LAYER = {'self_attn.o_proj.weight': 'attn_output.weight', 'gate_attn': 'attn_gate', 'gate_ffn': 'ffn_gate', **{f'self_attn.{x}_proj.weight': f'attn_{x}.weight' for x in 'qkv'},
            **{f'{old}.{part}': f'{new}.{part}' for old, new in (('input_layernorm', 'attn_norm'), ('post_attention_layernorm', 'ffn_norm'), ('mlp.fc1', 'ffn_up'), ('mlp.fc2', 'ffn_down'))
               for part in ('weight', 'bias')}}


def tensor_name(name):
    if found := LAYER.fullmatch(name):
        return f'v.{"global." if found[1] else ""}blk.{found[2]}.{IN_LAYER[found[3]]}'
    return next(pattern.sub(new, name) for pattern, new in NAMES if pattern.fullmatch(name))


class File:
    """Keys and tensors of a GGUF file of this project: little-endian, version 3."""
    def __init__(self, path):
        self.data, self.at = path.read_bytes(), 4
        version, n_tensors, n_keys = self.take('IQQ')
        if self.data[:4] != b'GGUF' or version != 3:
            raise SystemExit(f'{path}: not a GGUF file of version 3')
        self.keys = {}
        for _ in range(n_keys):
            key = self.text()
            self.keys[key] = self.value(self.take('I')[0])
        rows = []
        for _ in range(n_tensors):
            name, n = self.text(), self.take('I')[0]
            rows.append((name, self.take(f'{n}Q')[::-1], *self.take('IQ')))
        start = self.at + -self.at % ALIGNMENT
        self.tensors = {name: (shape, kind, start + offset) for name, shape, kind, offset in rows}

    def take(self, form):
        values = struct.unpack_from('<' + form, self.data, self.at)
        self.at += struct.calcsize('<' + form)
        return values

    def text(self):
        n, = self.take('Q')
        self.at += n
        return self.data[self.at - n:self.at].decode()

    def value(self, kind):
        if kind == STRING:
            return self.text()
        if kind == ARRAY:
            inner, n = self.take('IQ')
            return [self.value(inner) for _ in range(n)]
        return self.take(NUMBERS[kind])[0]

    def tensor(self, name):
        shape, kind, offset = self.tensors[name]
        n = int(np.prod(shape))
        if kind in (0, 1):
            values = np.frombuffer(self.data, ('<f4', '<f2')[kind], n, offset)
        elif kind == 8:
            blocks = np.frombuffer(self.data, np.dtype([('d', '<f2'), ('q', 'i1', 32)]), n // 32, offset)
            values = blocks['d'][:, None].astype(np.float32) * blocks['q']
        else:
            raise SystemExit(f'{name}: a type that training does not start from')
        return torch.from_numpy(values.astype(np.float32).reshape(shape))


def halves(x, heads):
    """Rows of a head from neighbours back to halves, as rotary positions want them here."""
    n, w = x.shape
    return x.view(heads, n // heads // 2, 2, w).transpose(1, 2).reshape(n, w)


def read_gguf(path):
    """The model and its tokenizer."""
    file = File(path)
    key = {name.removeprefix('mllama.'): value for name, value in file.keys.items()}
    sizes = {
        'vision': {'width': key['vision.embedding_length'], 'heads': key['vision.attention.head_count'], 'hidden': key['vision.feed_forward_length'],
                   'local': key['vision.block_count'], 'global': key['vision.global.block_count'], 'side': key['vision.image_size'], 'patch': key['vision.patch_size'],
                   'tiles': key['vision.max_num_tiles'], 'kept': key['vision.intermediate_layers_indices'], 'eps': key['vision.attention.layer_norm_epsilon']},
        'text': {'width': key['embedding_length'], 'heads': key['attention.head_count'], 'kv_heads': key['attention.head_count_kv'], 'hidden': key['feed_forward_length'],
                 'layers': key['block_count'], 'cross': key['attention.cross_attention_layers'], 'context': key['context_length'], 'rope_base': key['rope.freq_base'],
                 'eps': key['attention.layer_norm_rms_epsilon']}}
    tokenizer = tokens.Tokenizer([tuple(pair.split(' ')) for pair in file.keys['tokenizer.ggml.merges']])
    model, state = Mllama(sizes, tokenizer.n_vocab), {}
    for name, old in model.state_dict().items():
        x = file.tensor(tensor_name(name))
        if name.startswith('vision_model.') and 'gate' in name.rsplit('.', 1)[1]:
            x = torch.atanh(x)              # the file has tanh of these
        elif found := re.search(r'\.self_attn\.([qk])_proj', name) if name.startswith('language_model.') else None:
            x = halves(x, sizes['text']['heads' if found[1] == 'q' else 'kv_heads'])
        state[name] = x.reshape(old.shape)
    model.load_state_dict(state)
    return model, tokenizer
