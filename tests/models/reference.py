# SPDX-License-Identifier: MIT
"""What a checkpoint in Hugging Face's format means, in double precision and as plainly as possible: forward passes over its own tensors, by its own names and in
its own order of rows (transformers: modeling_llama, modeling_mixtral, modeling_mllama, modeling_llama4). Nothing here knows GGUF or the converter."""
import math

import numpy as np

erf = np.vectorize(math.erf, otypes=[float])


def rms(x, eps, weight=1.0):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * weight


def layer_norm(x, weight, bias, eps=1e-5):
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * weight + bias


def silu(x):
    return x / (1 + np.exp(-x))


def gelu(x):
    return 0.5 * x * (1 + erf(x / math.sqrt(2)))


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def heads(x, n):
    """[positions, n * d] as [n, positions, d]"""
    return x.reshape(len(x), n, -1).swapaxes(0, 1)


def attend(q, k, v, hidden):
    """q [H, n, d] over k, v [K, m, d]; hidden [n, m] is where nothing is seen. Result [n, H * d]."""
    share = len(q) // len(k)
    k, v = np.repeat(k, share, 0), np.repeat(v, share, 0)
    scores = q @ k.swapaxes(1, 2) / math.sqrt(q.shape[-1])
    return (softmax(np.where(hidden, -1e300, scores)) @ v).swapaxes(0, 1).reshape(q.shape[1], -1)


class Weights:
    """Tensors behind a common prefix."""

    def __init__(self, tensors, prefix=''):
        self.tensors, self.prefix = tensors, prefix

    def __getitem__(self, name):
        return self.tensors[self.prefix + name].astype(float)

    def at(self, prefix):
        return Weights(self.tensors, self.prefix + prefix)

    def linear(self, name, x):
        bias = self.tensors.get(f'{self.prefix}{name}.bias')
        return x @ self[f'{name}.weight'].T + (0 if bias is None else bias.astype(float))


# ---- rotary positions ----

def inverse_frequencies(c, d):
    """(frequencies, what queries and keys are multiplied by)"""
    base = c.get('rope_theta', 10000.0)
    inv = base ** -(np.arange(0, d, 2) / d)
    s = c.get('rope_scaling') or {}
    kind = s.get('rope_type', s.get('type'))
    if kind == 'linear':
        return inv / s['factor'], 1.0
    if kind == 'llama3':
        context, wave = s['original_max_position_embeddings'], 2 * math.pi / inv
        slow = np.where(wave > context / s['low_freq_factor'], inv / s['factor'], inv)
        if s['low_freq_factor'] == s['high_freq_factor']:
            return slow, 1.0
        smooth = (context / wave - s['low_freq_factor']) / (s['high_freq_factor'] - s['low_freq_factor'])
        middle = (wave >= context / s['high_freq_factor']) & (wave <= context / s['low_freq_factor'])
        return np.where(middle, (1 - smooth) * slow / s['factor'] + smooth * slow, slow), 1.0
    if kind == 'yarn':
        context = s['original_max_position_embeddings']
        low, high = (d * math.log(context / (turns * 2 * math.pi)) / (2 * math.log(base)) for turns in (32, 1))
        low, high = max(math.floor(low), 0), min(math.ceil(high), d - 1)
        ramp = np.clip((np.arange(d // 2) - low) / max(high - low, 0.001), 0, 1)
        return inv / s['factor'] * ramp + inv * (1 - ramp), 0.1 * math.log(s['factor']) + 1
    return inv, 1.0


def turn_halves(x, inv, scale=1.0):
    """x [H, n, d]: element i turns with element i + d / 2."""
    angle = np.arange(x.shape[1])[:, None] * np.concatenate([inv, inv])
    half = x.shape[-1] // 2
    return (x * np.cos(angle) + np.concatenate([-x[..., half:], x[..., :half]], -1) * np.sin(angle)) * scale


def turn_neighbours(x, angle):
    """x [H, n, d] as d / 2 complex numbers, each turned by angle [n, d / 2]."""
    z = (x[..., 0::2] + 1j * x[..., 1::2]) * np.exp(1j * angle)
    return np.stack([z.real, z.imag], -1).reshape(x.shape)


# ---- Llama, Mistral, Mixtral; the text of Llama 3.2 Vision ----

def dense(w, x):
    return w.linear('down_proj', silu(w.linear('gate_proj', x)) * w.linear('up_proj', x))


def mixtral_experts(w, x, n_used):
    p, y = softmax(w.linear('gate', x)), np.zeros_like(x)
    for t in range(len(x)):
        best = np.argsort(-p[t], kind='stable')[:n_used]
        for e in best:
            a = w.at(f'experts.{e}.')
            y[t] += p[t, e] / p[t, best].sum() * a.linear('w2', silu(a.linear('w1', x[t])) * a.linear('w3', x[t]))
    return y


def self_attention(w, x, c, inv, scale):
    H, n = c['num_attention_heads'], len(x)
    K = c.get('num_key_value_heads', H)
    q, k, v = (heads(w.linear(f'{name}_proj', x), count) for name, count in (('q', H), ('k', K), ('v', K)))
    return w.linear('o_proj', attend(turn_halves(q, inv, scale), turn_halves(k, inv, scale), v, ~np.tri(n, dtype=bool)))


def head_dim(c):
    return c.get('head_dim') or c['hidden_size'] // c['num_attention_heads']


def llama(config, tensors, ids):
    c, eps = config, config['rms_norm_eps']
    w = Weights(tensors)
    x = w['model.embed_tokens.weight'][ids]
    inv, scale = inverse_frequencies(c, head_dim(c))
    for l in range(c['num_hidden_layers']):
        y = w.at(f'model.layers.{l}.')
        x = x + self_attention(y.at('self_attn.'), rms(x, eps, y['input_layernorm.weight']), c, inv, scale)
        h = rms(x, eps, y['post_attention_layernorm.weight'])
        x = x + (mixtral_experts(y.at('block_sparse_moe.'), h, c['num_experts_per_tok']) if c['model_type'] == 'mixtral' else dense(y.at('mlp.'), h))
    output = 'model.embed_tokens.weight' if c.get('tie_word_embeddings') else 'lm_head.weight'
    return rms(x, eps, w['model.norm.weight']) @ w[output].T


# ---- Llama 3.2 Vision ----

def mllama_vision_layer(w, x, n_head, hidden, eps, gates=(1.0, 1.0)):
    h = layer_norm(x, w['input_layernorm.weight'], w['input_layernorm.bias'], eps)
    q, k, v = (heads(w.linear(f'self_attn.{name}_proj', h), n_head) for name in 'qkv')
    x = x + gates[0] * w.linear('self_attn.o_proj', attend(q, k, v, hidden))
    h = layer_norm(x, w['post_attention_layernorm.weight'], w['post_attention_layernorm.bias'], eps)
    return x + gates[1] * w.linear('mlp.fc2', gelu(w.linear('mlp.fc1', h)))


def mllama_vision(c, w, tiles, arrangement):
    """tiles [used, 3, S, S]; arrangement: the number of their arrangement, from 1. Vectors [max_num_tiles * positions, width of the projector]."""
    T, P, W, eps = c['max_num_tiles'], c['patch_size'], c['hidden_size'], c['norm_eps']
    pixels = np.zeros((T, *tiles.shape[1:]))
    pixels[:len(tiles)] = tiles
    side = pixels.shape[-1] // P
    patches = pixels.reshape(T, 3, side, P, side, P).transpose(0, 2, 4, 1, 3, 5).reshape(T, side * side, 3 * P * P)
    x = patches @ w['patch_embedding.weight'].reshape(W, -1).T
    x = x + w['pre_tile_positional_embedding.embedding.weight'][arrangement].reshape(T, 1, W) * np.tanh(w['pre_tile_positional_embedding.gate'])
    x = np.concatenate([np.broadcast_to(w['class_embedding'], (T, 1, W)), x], 1)
    gate, n = np.tanh(w['gated_positional_embedding.gate']), x.shape[1]
    x = x + (1 - gate) * w['gated_positional_embedding.embedding'] + gate * w['gated_positional_embedding.tile_embedding.weight'][arrangement].reshape(T, n, W)
    x = layer_norm(x, w['layernorm_pre.weight'], w['layernorm_pre.bias'])
    pad = -n % 8
    x = np.concatenate([x, np.zeros((T, pad, W))], 1).reshape(T * (n + pad), W)
    dead = np.ones((T, n + pad), bool)
    dead[:len(tiles), :n] = False
    dead = dead.reshape(-1)
    hidden, kept = dead[:, None] & dead[None, :], []
    for l in range(c['num_hidden_layers']):
        if l in c['intermediate_layers_indices']:
            kept.append(x)
        x = mllama_vision_layer(w.at(f'transformer.layers.{l}.'), x, c['attention_heads'], hidden, eps)
    x = layer_norm(x, w['layernorm_post.weight'], w['layernorm_post.bias']).reshape(T, n + pad, W)
    x = x + w['post_tile_positional_embedding.embedding.weight'][arrangement].reshape(T, 1, W) * np.tanh(w['post_tile_positional_embedding.gate'])
    x = x.reshape(-1, W)
    for l in range(c['num_global_layers']):
        y = w.at(f'global_transformer.layers.{l}.')
        x = mllama_vision_layer(y, x, c['attention_heads'], hidden, eps, (np.tanh(y['gate_attn']), np.tanh(y['gate_ffn'])))
    features = np.concatenate([x, np.stack(kept, -1).reshape(len(x), -1)], -1)
    return features.reshape(T, n + pad, -1)[:, :n].reshape(T * n, -1)


def mllama(config, tensors, ids, tiles=None, arrangement=0):
    """At most one picture, whose token is in ids."""
    c, eps, w, n = config['text_config'], config['text_config']['rms_norm_eps'], Weights(tensors), len(ids)
    x = w['language_model.model.embed_tokens.weight'][ids]
    inv, scale = inverse_frequencies(c, head_dim(c))
    if tiles is not None:
        states = w.linear('multi_modal_projector', mllama_vision(config['vision_config'], w.at('vision_model.'), tiles, arrangement))
        used = len(states) // config['vision_config']['max_num_tiles'] * len(tiles)
        sees = (np.arange(n) >= list(ids).index(config['image_token_index']))[:, None]
    for l in range(c['num_hidden_layers']):
        y = w.at(f'language_model.model.layers.{l}.')
        h = rms(x, eps, y['input_layernorm.weight'])
        if l not in c['cross_attention_layers']:
            x = x + self_attention(y.at('self_attn.'), h, c, inv, scale)
            x = x + dense(y.at('mlp.'), rms(x, eps, y['post_attention_layernorm.weight']))
        elif tiles is not None:
            a = y.at('cross_attn.')
            q = rms(heads(a.linear('q_proj', h), c['num_attention_heads']), eps, a['q_norm.weight'])
            k = rms(heads(a.linear('k_proj', states[:used]), c['num_key_value_heads']), eps, a['k_norm.weight'])
            v = heads(a.linear('v_proj', states[:used]), c['num_key_value_heads'])
            x = x + np.tanh(y['cross_attn_attn_gate']) * sees * a.linear('o_proj', attend(q, k, v, np.zeros((n, used), bool)))
            x = x + np.tanh(y['cross_attn_mlp_gate']) * sees * dense(y.at('mlp.'), rms(x, eps, y['post_attention_layernorm.weight']))
    return rms(x, eps, w['language_model.model.norm.weight']) @ w['language_model.lm_head.weight'].T


# ---- Llama 4 ----

def llama4_vision(c, w, tile):
    """One tile [3, S, S]: vectors [positions / 4, width of the adapter]."""
    P, W, H = c['patch_size'], c['hidden_size'], c['num_attention_heads']
    side = tile.shape[-1] // P
    patches = tile.reshape(3, side, P, side, P).transpose(1, 3, 0, 2, 4).reshape(side * side, 3 * P * P)
    x = np.concatenate([w.linear('patch_embedding.linear', patches), w['class_embedding'][None]]) + w['positional_embedding_vlm']
    x = layer_norm(x, w['layernorm_pre.weight'], w['layernorm_pre.bias'])
    quarter = W // H // 4
    inv = c['rope_theta'] ** -(np.arange(quarter) / quarter)
    place = np.arange(side * side)
    angle = np.concatenate([(place % side + 1)[:, None] * inv, (place // side + 1)[:, None] * inv], -1)
    angle = np.concatenate([angle, np.zeros((1, 2 * quarter))])
    for l in range(c['num_hidden_layers']):
        y = w.at(f'model.layers.{l}.')
        h = layer_norm(x, y['input_layernorm.weight'], y['input_layernorm.bias'])
        q, k, v = (heads(y.linear(f'self_attn.{name}_proj', h), H) for name in 'qkv')
        x = x + y.linear('self_attn.o_proj', attend(turn_neighbours(q, angle), turn_neighbours(k, angle), v, np.zeros((len(x), len(x)), bool)))
        h = layer_norm(x, y['post_attention_layernorm.weight'], y['post_attention_layernorm.bias'])
        x = x + y.linear('mlp.fc2', gelu(y.linear('mlp.fc1', h)))
    x = layer_norm(x, w['layernorm_post.weight'], w['layernorm_post.bias'])[:-1]
    x = x.reshape(side // 2, 2, side // 2, 2, W).transpose(0, 2, 1, 3, 4).reshape(side * side // 4, 4 * W)
    return gelu(w.linear('vision_adapter.mlp.fc2', gelu(w.linear('vision_adapter.mlp.fc1', x))))


def llama4_experts(w, x, n_used):
    scores, gate_up, down = w.linear('router', x), w['experts.gate_up_proj'], w['experts.down_proj']
    y = dense(w.at('shared_expert.'), x)
    for t in range(len(x)):
        for e in np.argsort(-scores[t], kind='stable')[:n_used]:
            gate, up = np.split(x[t] / (1 + np.exp(-scores[t, e])) @ gate_up[e], 2)
            y[t] += (up * silu(gate)) @ down[e]
    return y


def llama4(config, tensors, ids, tile=None):
    c, w, n = config.get('text_config', config), Weights(tensors), len(ids)
    eps, d, H, K = c['rms_norm_eps'], head_dim(c), c['num_attention_heads'], c['num_key_value_heads']
    x = w['language_model.model.embed_tokens.weight'][ids]
    if tile is not None:
        vectors = w.linear('multi_modal_projector.linear_1', llama4_vision(config['vision_config'], w.at('vision_model.'), tile))
        x[np.array(ids) == config['image_token_index']] = vectors
    inv, _ = inverse_frequencies(c, d)
    place = np.arange(n)
    causal = place[None, :] > place[:, None]
    chunked = causal | (place[None, :] // c['attention_chunk_size'] != place[:, None] // c['attention_chunk_size'])
    for l in range(c['num_hidden_layers']):
        y, turns = w.at(f'language_model.model.layers.{l}.'), (l + 1) % 4 != 0
        h = rms(x, eps, y['input_layernorm.weight'])
        q, k, v = (heads(y.linear(f'self_attn.{name}_proj', h), count) for name, count in (('q', H), ('k', K), ('v', K)))
        if turns:
            q, k = turn_neighbours(q, place[:, None] * inv), turn_neighbours(k, place[:, None] * inv)
            if c['use_qk_norm']:
                q, k = rms(q, eps), rms(k, eps)
        x = x + y.linear('self_attn.o_proj', attend(q, k, v, chunked if turns else causal))
        h = rms(x, eps, y['post_attention_layernorm.weight'])
        experts = (l + 1) % c['interleave_moe_layer_step'] == 0
        x = x + (llama4_experts(y.at('feed_forward.'), h, c['num_experts_per_tok']) if experts else dense(y.at('feed_forward.'), h))
    return rms(x, eps, w['language_model.model.norm.weight']) @ w['language_model.lm_head.weight'].T
