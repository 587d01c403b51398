# SPDX-License-Identifier: MIT
"""The architecture mllama for training, in PyTorch. Parameters are named and shaped as in published Llama 3.2 Vision checkpoints; what is
computed: docs/models/mllama.md. One picture of one tile per sequence, or none: all that the small model is trained on.
"""
import torch
import torch.nn.functional as F
from torch import nn

MEAN, DEVIATION = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)

SIZES = {
    'vision': {'width': 128, 'heads': 4, 'hidden': 384, 'local': 4, 'global': 1, 'side': 112, 'patch': 14, 'tiles': 1, 'kept': [1, 2], 'eps': 1e-5},
    'text': {'width': 128, 'heads': 4, 'kv_heads': 2, 'hidden': 384, 'layers': 6, 'cross': [1, 3], 'context': 1024, 'rope_base': 10000.0, 'eps': 1e-5}}


def linear(inputs, outputs, bias=False, scale=1.0):
    layer = nn.Linear(inputs, outputs, bias=bias)
    nn.init.normal_(layer.weight, std=scale * inputs ** -0.5)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer


def attend(q, k, v, mask=None):
    """q [batch, heads, n, d], k and v [batch, heads, m, d]; mask is added to the scores. (On CPUs faster than PyTorch's own, whose gradient is slow.)"""
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    return (scores if mask is None else scores + mask.to(scores.dtype)).softmax(-1).to(v.dtype) @ v


def number(value):
    return nn.Parameter(torch.tensor([float(value)]))


class Table(nn.Module):
    """Tile vectors by number of arrangement [arrangements + 1, tiles * width] with their gate."""
    def __init__(self, rows, width, gate):
        super().__init__()
        self.embedding = nn.Embedding(rows, width)
        nn.init.normal_(self.embedding.weight, std=0.02)
        self.gate = number(gate)


class Positions(nn.Module):
    def __init__(self, n, width, rows):
        super().__init__()
        self.embedding = nn.Parameter(torch.randn(n, width) * 0.5)
        self.tile_embedding = nn.Embedding(rows, n * width)
        nn.init.normal_(self.tile_embedding.weight, std=0.02)
        self.gate = number(0.1)


class VisionAttention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = (linear(width, width) for _ in range(4))

    def forward(self, x, mask):
        b, n, w = x.shape
        weights = torch.cat([self.q_proj.weight, self.k_proj.weight, self.v_proj.weight])
        q, k, v = F.linear(x, weights).view(b, n, 3, self.heads, w // self.heads).permute(2, 0, 3, 1, 4)
        return self.o_proj(attend(q, k, v, mask).transpose(1, 2).reshape(b, n, w))


class VisionMLP(nn.Module):
    def __init__(self, width, hidden):
        super().__init__()
        self.fc1, self.fc2 = linear(width, hidden, True), linear(hidden, width, True)

    def forward(self, x):
        return self.fc2(F.gelu(self.fc1(x)))


class VisionLayer(nn.Module):
    def __init__(self, size, gated):
        super().__init__()
        width = size['width']
        self.self_attn, self.mlp = VisionAttention(width, size['heads']), VisionMLP(width, size['hidden'])
        self.input_layernorm, self.post_attention_layernorm = nn.LayerNorm(width, size['eps']), nn.LayerNorm(width, size['eps'])
        if gated:
            self.gate_attn, self.gate_ffn = number(0.9), number(0.9)
        self.gated = gated

    def forward(self, x, mask):
        a, f = (self.gate_attn.tanh(), self.gate_ffn.tanh()) if self.gated else (1, 1)
        x = x + a * self.self_attn(self.input_layernorm(x), mask)
        return x + f * self.mlp(self.post_attention_layernorm(x))


class Stack(nn.Module):
    def __init__(self, layers):
        super().__init__()
        self.layers = nn.ModuleList(layers)


class Patches(nn.Module):
    def __init__(self, width, patch):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(width, 3, patch, patch) * (3 * patch * patch) ** -0.5)


class Vision(nn.Module):
    """Pictures uint8 [batch, side, side, 3] to features [batch, positions, width (1 + kept)]. With one tile the arrangement is always number 1."""
    def __init__(self, size):
        super().__init__()
        assert size['tiles'] == 1
        self.size, width = size, size['width']
        n = (size['side'] // size['patch']) ** 2 + 1
        self.n, self.padding, rows = n, -n % 8, 2
        self.patch_embedding = Patches(width, size['patch'])
        self.class_embedding = nn.Parameter(torch.randn(width) * 0.5)
        self.gated_positional_embedding = Positions(n, width, rows)
        self.pre_tile_positional_embedding, self.post_tile_positional_embedding = Table(rows, width, 0.1), Table(rows, width, 0.1)
        self.layernorm_pre, self.layernorm_post = nn.LayerNorm(width, size['eps']), nn.LayerNorm(width, size['eps'])
        self.transformer = Stack(VisionLayer(size, False) for _ in range(size['local']))
        self.global_transformer = Stack(VisionLayer(size, True) for _ in range(size['global']))
        dead = torch.arange(n + self.padding) >= n      # a dead position sees live ones only
        mask = torch.zeros(n + self.padding, n + self.padding).masked_fill(dead[:, None] & dead[None, :], torch.finfo(torch.bfloat16).min)
        self.register_buffer('mask', mask, persistent=False)
        self.register_buffer('mean', torch.tensor(MEAN), persistent=False)
        self.register_buffer('deviation', torch.tensor(DEVIATION), persistent=False)

    def patches(self, pictures):
        b, side, _, _ = pictures.shape
        p = self.size['patch']
        x = (pictures.float() / 255 - self.mean) / self.deviation
        return x.view(b, side // p, p, side // p, p, 3).permute(0, 1, 3, 5, 2, 4).reshape(b, -1, 3 * p * p)

    def forward(self, pictures):
        b, where = len(pictures), self.gated_positional_embedding
        x = F.linear(self.patches(pictures), self.patch_embedding.weight.flatten(1)).float()
        x = x + self.pre_tile_positional_embedding.embedding.weight[1] * self.pre_tile_positional_embedding.gate.tanh()
        x = torch.cat([self.class_embedding.expand(b, 1, -1), x], 1)
        gate = where.gate.tanh()
        x = x + where.embedding * (1 - gate) + where.tile_embedding.weight[1].view(self.n, -1) * gate
        x = F.pad(self.layernorm_pre(x), (0, 0, 0, self.padding))
        kept = []
        for i, layer in enumerate(self.transformer.layers):
            if i in self.size['kept']:
                kept.append(x)
            x = layer(x, self.mask)
        x = self.layernorm_post(x) + self.post_tile_positional_embedding.embedding.weight[1] * self.post_tile_positional_embedding.gate.tanh()
        for layer in self.global_transformer.layers:
            x = layer(x, self.mask)
        return torch.cat([x, torch.stack(kept, -1).flatten(-2)], -1)[:, :self.n]


class Norm(nn.Module):
    def __init__(self, width, eps):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(width)), eps

    def forward(self, x):
        return F.rms_norm(x, self.weight.shape, self.weight.to(x.dtype), self.eps)


def turn(x, cos, sin):
    """Rotary positions; number j of a head goes with number j + half."""
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


class SelfAttention(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.heads, self.kv_heads, width = size['heads'], size['kv_heads'], size['width']
        self.d = width // self.heads
        self.q_proj, self.o_proj = linear(width, width), linear(width, width)
        self.k_proj, self.v_proj = linear(width, self.kv_heads * self.d), linear(width, self.kv_heads * self.d)

    def forward(self, x, angles):
        b, n, w = x.shape
        weights = torch.cat([self.q_proj.weight, self.k_proj.weight, self.v_proj.weight])
        qkv = F.linear(x, weights).view(b, n, -1, self.d).transpose(1, 2)
        q, k, v = qkv.split([self.heads, self.kv_heads, self.kv_heads], 1)
        cos, sin, causal = angles
        cos, sin = cos[:n].to(q.dtype), sin[:n].to(q.dtype)
        q, k = turn(q, cos, sin), turn(k, cos, sin)
        k, v = (t.repeat_interleave(self.heads // self.kv_heads, 1) for t in (k, v))
        return self.o_proj(attend(q, k, v, causal[:n, :n]).transpose(1, 2).reshape(b, n, w))


class CrossAttention(SelfAttention):
    def __init__(self, size):
        super().__init__(size)
        self.q_norm, self.k_norm = Norm(self.d, size['eps']), Norm(self.d, size['eps'])

    def forward(self, x, pictures):
        """x [batch, n, width] looks at pictures [batch, positions, width]."""
        b, n, w = x.shape
        q = self.q_norm(self.q_proj(x).view(b, n, -1, self.d)).transpose(1, 2)
        k, v = F.linear(pictures, torch.cat([self.k_proj.weight, self.v_proj.weight])).view(b, pictures.shape[1], -1, self.d).split(self.kv_heads, 2)
        k, v = (t.transpose(1, 2).repeat_interleave(self.heads // self.kv_heads, 1) for t in (self.k_norm(k), v))
        return self.o_proj(attend(q, k, v).transpose(1, 2).reshape(b, n, w))


class TextMLP(nn.Module):
    def __init__(self, width, hidden):
        super().__init__()
        self.gate_proj, self.up_proj, self.down_proj = linear(width, hidden), linear(width, hidden), linear(hidden, width)

    def forward(self, x):
        gate, up = F.linear(x, torch.cat([self.gate_proj.weight, self.up_proj.weight])).chunk(2, -1)
        return self.down_proj(F.silu(gate) * up)


class TextLayer(nn.Module):
    def __init__(self, size, cross):
        super().__init__()
        self.cross = cross
        if cross:
            self.cross_attn = CrossAttention(size)
            self.cross_attn_attn_gate, self.cross_attn_mlp_gate = number(0.8), number(0.8)
        else:
            self.self_attn = SelfAttention(size)
        self.mlp = TextMLP(size['width'], size['hidden'])
        self.input_layernorm, self.post_attention_layernorm = Norm(size['width'], size['eps']), Norm(size['width'], size['eps'])

    def forward(self, x, angles, pictures, sees):
        if not self.cross:
            x = x + self.self_attn(self.input_layernorm(x), angles)
            return x + self.mlp(self.post_attention_layernorm(x))
        if pictures is None:
            return x
        x = x + self.cross_attn_attn_gate.tanh() * sees * self.cross_attn(self.input_layernorm(x), pictures)
        return x + self.cross_attn_mlp_gate.tanh() * sees * self.mlp(self.post_attention_layernorm(x))


class TextModel(nn.Module):
    def __init__(self, size, n_vocab):
        super().__init__()
        self.embed_tokens = nn.Embedding(n_vocab + 8, size['width'])        # row n_vocab: the picture
        nn.init.normal_(self.embed_tokens.weight, std=0.5)
        self.layers = nn.ModuleList(TextLayer(size, i in size['cross']) for i in range(size['layers']))
        self.norm = Norm(size['width'], size['eps'])


class Text(nn.Module):
    def __init__(self, size, n_vocab):
        super().__init__()
        self.model = TextModel(size, n_vocab)
        self.lm_head = linear(size['width'], n_vocab, scale=0.5)
        half = size['width'] // size['heads'] // 2
        frequency = size['rope_base'] ** (-torch.arange(half, dtype=torch.float64) / half)
        turns = torch.arange(size['context'], dtype=torch.float64)[:, None] * frequency
        self.register_buffer('cos', turns.cos().float(), persistent=False)
        self.register_buffer('sin', turns.sin().float(), persistent=False)
        self.register_buffer('causal', torch.full((size['context'],) * 2, torch.finfo(torch.bfloat16).min).triu(1), persistent=False)

    def forward(self, ids, pictures=None, sees=None):
        x = self.model.embed_tokens(ids)
        for layer in self.model.layers:
            x = layer(x, (self.cos, self.sin, self.causal), pictures, sees)
        return self.model.norm(x)


class Mllama(nn.Module):
    def __init__(self, sizes, n_vocab):
        super().__init__()
        self.sizes, self.n_vocab = sizes, n_vocab
        vision, text = sizes['vision'], sizes['text']
        self.vision_model = Vision(vision)
        self.multi_modal_projector = linear(vision['width'] * (1 + len(vision['kept'])), text['width'], True)
        self.language_model = Text(text, n_vocab)

    def look(self, pictures):
        """Pictures uint8 [n, side, side, 3] to the vectors that text looks at, [n, positions, text width]."""
        return self.multi_modal_projector(self.vision_model(pictures))

    def forward(self, ids, pictures=None):
        """ids [batch, n], pictures [batch, positions, text width] or None to normalised hidden vectors; logits: language_model.lm_head."""
        sees = None if pictures is None else (ids == self.n_vocab).cumsum(1).clamp(max=1)[:, :, None].float()
        return self.language_model(ids, pictures, sees)
