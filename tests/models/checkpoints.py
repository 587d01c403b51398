# SPDX-License-Identifier: MIT
"""Makes small folders in Hugging Face's format with random numbers: configurations, tensors by name, tokenizers; and writes them."""
import json
import pathlib
import struct

import numpy as np

LLAMA3_PATTERN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA4_PATTERN = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
                  r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
                  r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")


# ---- writing ----

def as_dtype(array, dtype):
    """(bytes as they are stored, the values that they mean)"""
    if dtype == 'BF16':
        bits = np.ascontiguousarray(array, np.float32).view(np.uint32) + 0x8000 >> 16       # to nearest is near enough for numbers to begin with
        return bits.astype('<u2').tobytes(), (bits << 16).view(np.float32)
    stored = array.astype({'F32': '<f4', 'F16': '<f2'}[dtype])
    return stored.tobytes(), stored.astype(np.float32)


def safetensors(rows):
    """[(name, dtype, shape, bytes)] as a file."""
    header, at = {'__metadata__': {'format': 'pt'}}, 0
    for name, dtype, shape, data in rows:
        header[name] = {'dtype': dtype, 'shape': list(shape), 'data_offsets': [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header).encode()
    text += b' ' * (-len(text) % 8)
    return struct.pack('<Q', len(text)) + text + b''.join(data for *_, data in rows)


def save(folder, config, tensors, files, dtype='F32', n_shards=1):
    """Writes the folder; returns the tensors as they were rounded. `files`: further files by name, objects or bytes. `dtype`: one, or a function of the name."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for old in [*folder.glob('*.safetensors'), *folder.glob('*.index.json')]:
        old.unlink()
    rows, values = [], {}
    for name, array in tensors.items():
        kind = dtype if isinstance(dtype, str) else dtype(name)
        data, values[name] = as_dtype(array, kind)
        rows.append((name, kind, array.shape, data))
    if n_shards == 1:
        (folder / 'model.safetensors').write_bytes(safetensors(rows))
    else:
        where = {}
        for i in range(n_shards):
            file = f'model-{i + 1:05d}-of-{n_shards:05d}.safetensors'
            (folder / file).write_bytes(safetensors(rows[i::n_shards]))
            where.update({name: file for name, *_ in rows[i::n_shards]})
        (folder / 'model.safetensors.index.json').write_text(json.dumps({'metadata': {}, 'weight_map': where}))
    for name, content in {'config.json': config, **files}.items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return values


# ---- vocabularies ----

def byte_alphabet():
    plain = [*range(0x21, 0x7f), *range(0xa1, 0xad), *range(0xae, 0x100)]
    others = iter(range(0x100, 0x200))
    return [chr(byte) if byte in plain else chr(next(others)) for byte in range(256)]


MERGES = [('h', 'e'), ('l', 'l'), ('he', 'll'), ('hell', 'o'), ('Ġ', 'w'), ('o', 'r'), ('Ġw', 'or'), ('l', 'd'), ('Ġwor', 'ld'), ('Ġ', 't'), ('Ġt', 'he')]


def byte_level(specials, pattern=LLAMA3_PATTERN, pairs_as_lists=True, merges=MERGES, ignore_merges=False, first=0):
    """tokenizer.json with 256 bytes, a few pairs, and special tokens from there on."""
    texts = byte_alphabet() + [a + b for a, b in merges]
    added = [{'id': len(texts) + i, 'content': text, 'special': True, 'lstrip': False, 'rstrip': False, 'normalized': False, 'single_word': False} for i, text in enumerate(specials)]
    return {
        'version': '1.0', 'added_tokens': added, 'normalizer': None,
        'pre_tokenizer': {'type': 'Sequence', 'pretokenizers': [{'type': 'Split', 'pattern': {'Regex': pattern}, 'behavior': 'Isolated', 'invert': False},
                                                                {'type': 'ByteLevel', 'add_prefix_space': False, 'trim_offsets': True, 'use_regex': False}]},
        'post_processor': {'type': 'Sequence', 'processors': [{'type': 'ByteLevel'}, {'type': 'TemplateProcessing', 'single': [
            {'SpecialToken': {'id': specials[0], 'type_id': 0}}, {'Sequence': {'id': 'A', 'type_id': 0}}], 'pair': [], 'special_tokens': {}}]},
        'model': {'type': 'BPE', 'byte_fallback': False, 'ignore_merges': ignore_merges, 'vocab': {text: i for i, text in enumerate(texts)},
                  'merges': [[a, b] if pairs_as_lists else f'{a} {b}' for a, b in merges]},
    }


WORDS = ['▁', 'h', 'e', 'l', 'o', 'w', 'r', 'd', 'll', 'he', 'hell', 'hello', '▁hello', '▁w', 'or', 'ld', '▁wor', '▁world']
PIECES = [('<unk>', 0.0, 2), ('<s>', 0.0, 3), ('</s>', 0.0, 3)] + [(f'<0x{byte:02X}>', 0.0, 6) for byte in range(256)] + [(text, -float(i), 1) for i, text in enumerate(WORDS)]


def varint(n):
    out = b''
    while n > 127:
        out, n = out + bytes([n & 127 | 128]), n >> 7
    return out + bytes([n])


def message(*rows):
    """A message of protocol buffers of (number, value): whole numbers, floats, bytes."""
    out = b''
    for number, value in rows:
        if isinstance(value, float):
            out += varint(number << 3 | 5) + struct.pack('<f', value)
        elif isinstance(value, int):
            out += varint(number << 3) + varint(value % (1 << 64))
        else:
            out += varint(number << 3 | 2) + varint(len(value)) + value
    return out


def sentencepiece(pieces=PIECES, model_type=2, normalizer=((1, b'identity'), (3, 1), (4, 0))):
    rows = [(1, message((1, text if isinstance(text, bytes) else text.encode()), (2, float(score)), *([(3, kind)] if kind != 1 else []))) for text, score, kind in pieces]
    return message(*rows, (2, message((3, model_type), (4, len(pieces)), (40, 0), (41, 1), (42, 2), (43, -1))), (3, message(*normalizer)))


# ---- models ----

class Draw:
    """Random tensors by name; matrices of n inputs have a deviation of about 1 / sqrt(n)."""

    def __init__(self, seed):
        self.random, self.tensors = np.random.default_rng(seed), {}

    def matrix(self, name, *shape, scale=None):
        self.tensors[name] = (self.random.standard_normal(shape) * (scale or shape[-1] ** -0.5)).astype(np.float32)

    def norm(self, name, n, bias=False):
        self.tensors[f'{name}.weight'] = (1 + 0.4 * self.random.standard_normal(n)).astype(np.float32)
        if bias:
            self.vector(f'{name}.bias', n)

    def vector(self, name, n, scale=0.3):
        self.tensors[name] = (self.random.standard_normal(n) * scale).astype(np.float32)

    def gate(self, name):
        self.tensors[name] = np.array([0.4 + 0.8 * self.random.random()], np.float32)

    def self_attention(self, at, c, biases=False):
        d = c.get('head_dim') or c['hidden_size'] // c['num_attention_heads']
        q, kv = c['num_attention_heads'] * d, c['num_key_value_heads'] * d
        for name, n_in, n_out in (('q', c['hidden_size'], q), ('k', c['hidden_size'], kv), ('v', c['hidden_size'], kv), ('o', q, c['hidden_size'])):
            self.matrix(f'{at}.{name}_proj.weight', n_out, n_in, scale=1.5 * n_in ** -0.5)
            if biases:
                self.vector(f'{at}.{name}_proj.bias', n_out)

    def dense(self, at, n_embd, n_ff, biases=False):
        for name, n_in, n_out in (('gate', n_embd, n_ff), ('up', n_embd, n_ff), ('down', n_ff, n_embd)):
            self.matrix(f'{at}.{name}_proj.weight', n_out, n_in)
            if biases:
                self.vector(f'{at}.{name}_proj.bias', n_out)

    def vision_layer(self, at, W, M, biases):
        for name in ('input_layernorm', 'post_attention_layernorm'):
            self.norm(f'{at}.{name}', W, True)
        for name in 'qkvo':
            self.matrix(f'{at}.self_attn.{name}_proj.weight', W, W)
            if biases:
                self.vector(f'{at}.self_attn.{name}_proj.bias', W)
        for name, n_in, n_out in (('fc1', W, M), ('fc2', M, W)):
            self.matrix(f'{at}.mlp.{name}.weight', n_out, n_in)
            self.vector(f'{at}.mlp.{name}.bias', n_out)


def llama(seed, n_vocab, **changes):
    """(configuration, tensors)"""
    c = {'architectures': ['LlamaForCausalLM'], 'model_type': 'llama', 'hidden_size': 64, 'intermediate_size': 96, 'num_hidden_layers': 3, 'num_attention_heads': 4,
         'num_key_value_heads': 2, 'hidden_act': 'silu', 'max_position_embeddings': 256, 'rms_norm_eps': 1e-5, 'vocab_size': n_vocab, 'tie_word_embeddings': False, **changes}
    draw, D = Draw(seed), c['hidden_size']
    draw.matrix('model.embed_tokens.weight', n_vocab, D, scale=1.0)
    for l in range(c['num_hidden_layers']):
        at = f'model.layers.{l}'
        draw.norm(f'{at}.input_layernorm', D)
        draw.norm(f'{at}.post_attention_layernorm', D)
        draw.self_attention(f'{at}.self_attn', c, c.get('attention_bias', False))
        if c['model_type'] == 'mixtral':
            draw.matrix(f'{at}.block_sparse_moe.gate.weight', c['num_local_experts'], D, scale=0.5)
            for e in range(c['num_local_experts']):
                for name, n_in, n_out in (('w1', D, c['intermediate_size']), ('w2', c['intermediate_size'], D), ('w3', D, c['intermediate_size'])):
                    draw.matrix(f'{at}.block_sparse_moe.experts.{e}.{name}.weight', n_out, n_in)
        else:
            draw.dense(f'{at}.mlp', D, c['intermediate_size'], c.get('mlp_bias', False))
    draw.norm('model.norm', D)
    if not c['tie_word_embeddings']:
        draw.matrix('lm_head.weight', n_vocab, D)
    return c, draw.tensors


def mllama(seed, n_vocab):
    text = {'model_type': 'mllama_text_model', 'hidden_size': 64, 'intermediate_size': 96, 'num_hidden_layers': 5, 'num_attention_heads': 4, 'num_key_value_heads': 2,
            'hidden_act': 'silu', 'max_position_embeddings': 512, 'rms_norm_eps': 1e-5, 'rope_theta': 500000.0, 'vocab_size': n_vocab, 'cross_attention_layers': [1, 3],
            'rope_scaling': {'rope_type': 'llama3', 'factor': 8.0, 'low_freq_factor': 1.0, 'high_freq_factor': 4.0, 'original_max_position_embeddings': 64}, 'tie_word_embeddings': False}
    vision = {'model_type': 'mllama_vision_model', 'hidden_size': 32, 'intermediate_size': 64, 'num_hidden_layers': 3, 'num_global_layers': 2, 'attention_heads': 2, 'num_channels': 3,
              'image_size': 28, 'patch_size': 7, 'max_num_tiles': 4, 'norm_eps': 1e-5, 'intermediate_layers_indices': [0, 2], 'vision_output_dim': 96, 'hidden_act': 'gelu',
              'supported_aspect_ratios': [[1, 1], [1, 2], [1, 3], [1, 4], [2, 1], [2, 2], [3, 1], [4, 1]]}
    config = {'architectures': ['MllamaForConditionalGeneration'], 'model_type': 'mllama', 'image_token_index': n_vocab, 'text_config': text, 'vision_config': vision}
    draw, D, d, W = Draw(seed), 64, 16, 32
    draw.matrix('language_model.model.embed_tokens.weight', n_vocab + 8, D, scale=1.0)
    for l in range(text['num_hidden_layers']):
        at = f'language_model.model.layers.{l}'
        draw.norm(f'{at}.input_layernorm', D)
        draw.norm(f'{at}.post_attention_layernorm', D)
        draw.dense(f'{at}.mlp', D, text['intermediate_size'])
        draw.self_attention(f'{at}.cross_attn' if l in text['cross_attention_layers'] else f'{at}.self_attn', text)
        if l in text['cross_attention_layers']:
            draw.norm(f'{at}.cross_attn.q_norm', d)
            draw.norm(f'{at}.cross_attn.k_norm', d)
            draw.gate(f'{at}.cross_attn_attn_gate')
            draw.gate(f'{at}.cross_attn_mlp_gate')
    draw.norm('language_model.model.norm', D)
    draw.matrix('language_model.lm_head.weight', n_vocab, D)
    draw.vector('vision_model.class_embedding', W, 1.0)
    draw.matrix('vision_model.patch_embedding.weight', W, 3, 7, 7, scale=0.1)
    draw.matrix('vision_model.gated_positional_embedding.embedding', 17, W, scale=0.5)
    draw.matrix('vision_model.gated_positional_embedding.tile_embedding.weight', 9, 4 * 17 * W, scale=0.5)
    for name in ('pre_tile', 'post_tile'):
        draw.matrix(f'vision_model.{name}_positional_embedding.embedding.weight', 9, 4 * W, scale=0.5)
        draw.gate(f'vision_model.{name}_positional_embedding.gate')
    draw.gate('vision_model.gated_positional_embedding.gate')
    draw.norm('vision_model.layernorm_pre', W, True)
    draw.norm('vision_model.layernorm_post', W, True)
    for l in range(vision['num_hidden_layers']):
        draw.vision_layer(f'vision_model.transformer.layers.{l}', W, 64, False)
    for l in range(vision['num_global_layers']):
        draw.vision_layer(f'vision_model.global_transformer.layers.{l}', W, 64, False)
        draw.gate(f'vision_model.global_transformer.layers.{l}.gate_attn')
        draw.gate(f'vision_model.global_transformer.layers.{l}.gate_ffn')
    draw.matrix('multi_modal_projector.weight', D, 3 * W)
    draw.vector('multi_modal_projector.bias', D)
    return config, draw.tensors


def llama4(seed, n_vocab, patch_token, **changes):
    text = {'model_type': 'llama4_text', 'hidden_size': 64, 'intermediate_size': 32, 'intermediate_size_mlp': 96, 'num_hidden_layers': 8, 'num_attention_heads': 4,
            'num_key_value_heads': 2, 'head_dim': 16, 'hidden_act': 'silu', 'max_position_embeddings': 512, 'rms_norm_eps': 1e-5, 'rope_theta': 500000.0, 'vocab_size': n_vocab,
            'num_local_experts': 4, 'num_experts_per_tok': 1, 'interleave_moe_layer_step': 2, 'use_qk_norm': True, 'attention_chunk_size': 16, 'no_rope_layers': [1, 1, 1, 0] * 2,
            'moe_layers': [1, 3, 5, 7], 'attn_temperature_tuning': 4, 'floor_scale': 8192, 'attn_scale': 0.1, 'tie_word_embeddings': False,
            'rope_scaling': {'rope_type': 'llama3', 'factor': 16.0, 'low_freq_factor': 1.0, 'high_freq_factor': 1.0, 'original_max_position_embeddings': 64}, **changes}
    vision = {'model_type': 'llama4_vision_model', 'hidden_size': 32, 'intermediate_size': 128, 'num_hidden_layers': 3, 'num_attention_heads': 2, 'num_channels': 3, 'image_size': 28,
              'patch_size': 7, 'norm_eps': 1e-5, 'pixel_shuffle_ratio': 0.5, 'projector_input_dim': 48, 'projector_output_dim': 48, 'vision_output_dim': 48, 'rope_theta': 10000,
              'hidden_act': 'gelu', 'multi_modal_projector_bias': False}
    config = {'architectures': ['Llama4ForConditionalGeneration'], 'model_type': 'llama4', 'image_token_index': patch_token, 'text_config': text, 'vision_config': vision}
    draw, D, W, E, F = Draw(seed), 64, 32, text['num_local_experts'], text['intermediate_size']
    draw.matrix('language_model.model.embed_tokens.weight', n_vocab, D, scale=1.0)
    for l in range(text['num_hidden_layers']):
        at = f'language_model.model.layers.{l}'
        draw.norm(f'{at}.input_layernorm', D)
        draw.norm(f'{at}.post_attention_layernorm', D)
        draw.self_attention(f'{at}.self_attn', text)
        if (l + 1) % text['interleave_moe_layer_step'] == 0:
            draw.matrix(f'{at}.feed_forward.router.weight', E, D, scale=0.5)
            draw.matrix(f'{at}.feed_forward.experts.gate_up_proj', E, D, 2 * F, scale=D ** -0.5)
            draw.matrix(f'{at}.feed_forward.experts.down_proj', E, F, D, scale=F ** -0.5)
            draw.dense(f'{at}.feed_forward.shared_expert', D, F)
        else:
            draw.dense(f'{at}.feed_forward', D, text['intermediate_size_mlp'])
    draw.norm('language_model.model.norm', D)
    draw.matrix('language_model.lm_head.weight', n_vocab, D)
    draw.vector('vision_model.class_embedding', W, 1.0)
    draw.matrix('vision_model.positional_embedding_vlm', 17, W, scale=0.5)
    draw.matrix('vision_model.patch_embedding.linear.weight', W, 3 * 49, scale=0.1)
    draw.norm('vision_model.layernorm_pre', W, True)
    draw.norm('vision_model.layernorm_post', W, True)
    for l in range(vision['num_hidden_layers']):
        draw.vision_layer(f'vision_model.model.layers.{l}', W, 128, True)
    draw.matrix('vision_model.vision_adapter.mlp.fc1.weight', 48, 4 * W)
    draw.matrix('vision_model.vision_adapter.mlp.fc2.weight', 48, 48)
    draw.matrix('multi_modal_projector.linear_1.weight', D, 48)
    return config, draw.tensors
