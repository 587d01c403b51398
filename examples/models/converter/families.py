# SPDX-License-Identifier: MIT
"""What each family of models calls its tensors and numbers in Hugging Face's folders, and in GGUF. A family is a row of FAMILIES.

Rotary positions: where a checkpoint turns halves of a head (Llama, Mistral, the text of Llama 3.2 Vision), the rows of queries and keys are interleaved, for
the library turns neighbours. Llama 4's checkpoints turn neighbours already; cross-attention and image encoders of tiles do not turn at all.
"""
import math

import numpy as np

from .checkpoint import Refused, STORED_AS, to_float
from .gguf import BOOL, F32, I32, STRING, U32, Tensor, TYPES

MAX_LAYERS, MAX_WIDTH = 1 << 12, 1 << 20     # of a configuration that is believed
IGNORED = ('.rotary_emb.inv_freq',)     # in old folders: frequencies that follow from the configuration


# ---- what is done with a tensor on its way: views where it can be, so that nothing is read ----

def same(w):
    return w


def interleaved(n_head):
    """Rows of each head: new[2 j + s] = old[s d / 2 + j]."""
    return lambda w: w.reshape(n_head, 2, w.shape[0] // n_head // 2, *w.shape[1:]).swapaxes(1, 2)


def first_rows(n):
    return lambda w: w[:n]


def columns_of_experts(first, last):
    """[expert, in, out] as stored, [expert, out, in] as written; a part of the outputs."""
    return lambda w: w[:, :, first:last].swapaxes(1, 2)


def tanh(w):
    return np.tanh(w.astype(np.float64)).astype(np.float32)


def one_minus_tanh(w):
    return (1 - np.tanh(w.astype(np.float64))).astype(np.float32)


ON_VALUES = (tanh, one_minus_tanh)      # the others look at no value, so bfloats may be passed as they lie

# How the elements of a tensor are kept, by the type that was asked for: matrices in it, tables of positions in 16 bits at least, the rest exactly.
MATRIX, TABLE, EXACT = 'matrix', 'table', 'exact'


class Plan:
    """Keys and tensors of the file to be, taken from the checkpoint one by one; what nobody took is an error."""

    def __init__(self, architecture, checkpoint, canonical, kind):
        self.architecture, self.kind, self.keys, self.tensors = architecture, kind, [], []
        self.checkpoint, self.left = checkpoint, {}
        for name, entry in checkpoint.tensors().items():
            plain = canonical(name)
            if plain in self.left:
                entry.fail(f'{self.left[plain].name} is the same tensor by another name')
            if not name.endswith(IGNORED):
                self.left[plain] = entry

    def key(self, suffix, kind, value):
        self.keys.append((f'{self.architecture}.{suffix}', kind, value))

    def has(self, source):
        return source in self.left

    def kept_as(self, keep, shape):
        """The type of a tensor. Rows that are no whole blocks, and tables, stay in halves beside quantized matrices."""
        if keep == EXACT or len(shape) < 2:
            return 'F32'
        plain = 'F16' if self.kind == 'Q8_0' else self.kind
        return self.kind if keep == MATRIX and shape[-1] % TYPES[self.kind][1] == 0 else plain

    def take(self, source, shape, again=False):
        entry = self.left.get(source)
        if entry is None:
            raise Refused(f'{self.checkpoint.folder}: tensor {source}: missing')
        if entry.shape != tuple(shape):
            entry.fail(f'shape {list(entry.shape)}, but config.json asks for {list(shape)}')
        if entry.dtype not in STORED_AS:
            entry.fail(f'dtype {entry.dtype}: only {", ".join(STORED_AS)} are converted')
        if not again:
            del self.left[source]
        return entry

    def add(self, name, sources, shape, keep=MATRIX, change=same, written=None, again=False):
        """`sources`: a name, or a list of names whose tensors follow one another; `shape` is that of each as stored, `written` that of all as written. `again`:
        another tensor will be made of the same source."""
        entries = [self.take(source, shape, again) for source in ([sources] if isinstance(sources, str) else sources)]
        written = tuple(written or shape)

        def read():
            for entry in entries:
                yield change(to_float(entry.array()) if change in ON_VALUES else entry.array())
        self.tensors.append(Tensor(name, self.kept_as(keep, written), written, read, f'{entries[0].path}: tensor {entries[0].name}'))

    def add_values(self, name, values):
        self.tensors.append(Tensor(name, 'F32', values.shape, lambda: [values], name))

    def finish(self):
        for entry in self.left.values():
            entry.fail('not a tensor of this architecture, as far as is known here')


# ---- text ----

# What a configuration means that does not say: base of rotary positions, epsilon of norms.
USUAL = {'llama': (10000.0, 1e-6), 'mistral': (10000.0, 1e-6), 'mixtral': (1e6, 1e-5), 'mllama': (500000.0, 1e-5), 'llama4': (500000.0, 1e-5), 'llama4_text': (500000.0, 1e-5)}


class Text:
    """Sizes of a text model."""

    def __init__(self, config, model_type):
        usual_base, self.usual_epsilon = USUAL[model_type]
        self.config = config
        self.n_layer = config.whole('num_hidden_layers', most=MAX_LAYERS)
        self.n_embd, self.n_head = config.whole('hidden_size', most=MAX_WIDTH), config.whole('num_attention_heads', most=MAX_WIDTH)
        self.n_head_kv = config.whole('num_key_value_heads', self.n_head)
        self.n_ff, self.n_vocab = config.whole('intermediate_size'), config.whole('vocab_size')
        if config.get('head_dim') is None and self.n_embd % self.n_head:
            config.fail('num_attention_heads', f'{self.n_head} heads do not share {self.n_embd} elements')
        self.d_head = config.whole('head_dim', self.n_embd // self.n_head, most=MAX_WIDTH)
        self.n_ctx = config.whole('max_position_embeddings')
        if self.n_head % self.n_head_kv or self.d_head % 2:
            config.fail('num_key_value_heads', f'{self.n_head} heads of {self.d_head} elements do not share {self.n_head_kv}')
        config.only('hidden_act', 'silu', 'silu')
        self.tied = config.flag('tie_word_embeddings', False)
        rope = config.part('rope_parameters')           # where newer folders have what older ones have in two places
        self.rope = rope if rope.members else config.part('rope_scaling')
        self.rope_base = rope.real('rope_theta', config.get('rope_theta', usual_base), 1.0)

    def add_keys(self, plan):
        d, epsilon = self.d_head, self.config.real('rms_norm_eps', self.usual_epsilon, 0.0, 1.0)
        for suffix, kind, value in (
                ('block_count', U32, self.n_layer), ('context_length', U32, self.n_ctx), ('embedding_length', U32, self.n_embd), ('feed_forward_length', U32, self.n_ff),
                ('attention.head_count', U32, self.n_head), ('attention.head_count_kv', U32, self.n_head_kv), ('attention.key_length', U32, d), ('attention.value_length', U32, d),
                ('attention.layer_norm_rms_epsilon', F32, epsilon), ('rope.dimension_count', U32, d), ('rope.freq_base', F32, self.rope_base), ('vocab_size', U32, self.n_vocab)):
            plan.key(suffix, kind, value)
        kind = self.rope.get('rope_type', self.rope.get('type', 'default'))
        if not isinstance(kind, str) or kind not in ROPE_SCALINGS:
            self.rope.fail('rope_type', f'{kind!r}; supported are {", ".join(ROPE_SCALINGS)}')
        ROPE_SCALINGS[kind](self, plan)

    def add_frame(self, plan, n_rows):
        """Embedding, last norm and output. The embedding may have more rows than there are tokens to choose from; without output.weight the library takes the
        embedding, if it has no others."""
        shape, copied = (n_rows, self.n_embd), self.tied and n_rows != self.n_vocab
        if self.tied and plan.has('lm_head.weight'):
            self.check_tied(plan, shape)
        plan.add('token_embd.weight', 'embed_tokens.weight', shape, again=copied)
        plan.add('output_norm.weight', 'norm.weight', (self.n_embd,))
        if copied:
            plan.add('output.weight', 'embed_tokens.weight', shape, change=first_rows(self.n_vocab), written=(self.n_vocab, self.n_embd))
        elif not self.tied:
            plan.add('output.weight', 'lm_head.weight', (self.n_vocab, self.n_embd))

    def check_tied(self, plan, shape):
        """A copy of the embedding may lie beside it."""
        embedding, output = plan.take('embed_tokens.weight', shape, True), plan.take('lm_head.weight', (self.n_vocab, self.n_embd))
        if output.dtype != embedding.dtype or not np.array_equal(output.array(), embedding.array()[:self.n_vocab]):
            output.fail('differs from the embedding, but tie_word_embeddings is true')

    def add_attention(self, plan, at, source, turn):
        """Self-attention. `turn`: whether rows of queries and keys are interleaved."""
        q, kv = self.n_head * self.d_head, self.n_head_kv * self.d_head
        plan.add(f'{at}.attn_norm.weight', f'{source}.input_layernorm.weight', (self.n_embd,))
        for name, mine, heads, n_in, n_out in (('q', 'q', self.n_head, self.n_embd, q), ('k', 'k', self.n_head_kv, self.n_embd, kv), ('v', 'v', 0, self.n_embd, kv),
                                               ('o', 'output', 0, q, self.n_embd)):
            change = interleaved(heads) if turn and heads else same
            plan.add(f'{at}.attn_{mine}.weight', f'{source}.self_attn.{name}_proj.weight', (n_out, n_in), change=change)
            if plan.has(f'{source}.self_attn.{name}_proj.bias'):
                plan.add(f'{at}.attn_{mine}.bias', f'{source}.self_attn.{name}_proj.bias', (n_out,), change=change)

    def add_dense(self, plan, at, source, n_ff):
        for name, n_in, n_out in (('gate', self.n_embd, n_ff), ('up', self.n_embd, n_ff), ('down', n_ff, self.n_embd)):
            plan.add(f'{at}.ffn_{name}.weight', f'{source}.{name}_proj.weight', (n_out, n_in))
            if plan.has(f'{source}.{name}_proj.bias'):
                plan.add(f'{at}.ffn_{name}.bias', f'{source}.{name}_proj.bias', (n_out,))

    def add_ffn_norm(self, plan, at, source):
        plan.add(f'{at}.ffn_norm.weight', f'{source}.post_attention_layernorm.weight', (self.n_embd,))


# ---- scaling of rotary positions ----

def no_scaling(text, plan):
    pass


def scaling_llama3(text, plan):
    """Divisors of the frequencies: 1 for short wavelengths, the factor for long ones, between them a blend."""
    factor, low, high = text.rope.real('factor', least=1.0), text.rope.real('low_freq_factor', least=1e-6), text.rope.real('high_freq_factor', least=1e-6)
    context, d = text.rope.whole('original_max_position_embeddings'), text.d_head
    turns = context / (2 * math.pi * text.rope_base ** (np.arange(0, d, 2, dtype=np.float64) / d))          # of each pair in that context
    kept = np.clip((turns - low) / (high - low), 0, 1) if high != low else np.zeros(d // 2)                 # 0: divided, 1: as it is
    kept = np.where(turns > high, 1.0, np.where(turns < low, 0.0, kept))
    plan.add_values('rope_freqs.weight', (1 / ((1 - kept) / factor + kept)).astype(np.float32))


def scaling_by(name):
    def add(text, plan):
        plan.key('rope.scaling.type', STRING, name)
        plan.key('rope.scaling.factor', F32, text.rope.real('factor', least=1.0))
        if name == 'yarn':
            plan.key('rope.scaling.original_context_length', U32, text.rope.whole('original_max_position_embeddings', text.n_ctx))
            for key, usual in (('beta_fast', 32), ('beta_slow', 1), ('truncate', True), ('mscale', None), ('mscale_all_dim', None), ('attention_factor', None)):
                text.rope.only(key, usual, usual)
    return add


ROPE_SCALINGS = {'default': no_scaling, 'linear': scaling_by('linear'), 'yarn': scaling_by('yarn'), 'llama3': scaling_llama3}


# ---- llama: Llama 1 to 3.3, Mistral, Mixtral ----

def without_model(name):
    return name[len('model.'):] if name.startswith('model.') else name


def mixtral_experts(plan, text, at, source, n_expert):
    moe = f'{source}.block_sparse_moe'
    plan.add(f'{at}.ffn_gate_inp.weight', f'{moe}.gate.weight', (n_expert, text.n_embd), EXACT)
    for mine, name, n_in, n_out in (('gate', 'w1', text.n_embd, text.n_ff), ('up', 'w3', text.n_embd, text.n_ff), ('down', 'w2', text.n_ff, text.n_embd)):
        plan.add(f'{at}.ffn_{mine}_exps.weight', [f'{moe}.experts.{e}.{name}.weight' for e in range(n_expert)], (n_out, n_in), written=(n_expert, n_out, n_in))


def llama(checkpoint, kind):
    model_type = checkpoint.config.get('model_type')
    text, plan = Text(checkpoint.config, model_type), Plan('llama', checkpoint, without_model, kind)
    window = checkpoint.config.whole('sliding_window', 0, 0)
    n_expert = checkpoint.config.whole('num_local_experts', 8) if model_type == 'mixtral' else 0
    if window:
        text.n_ctx = min(text.n_ctx, window)            # within its window such a model sees everything; the library knows no window
    text.add_keys(plan)
    if n_expert:
        plan.key('expert_count', U32, n_expert)
        plan.key('expert_used_count', U32, checkpoint.config.whole('num_experts_per_tok', 2))
    text.add_frame(plan, text.n_vocab)
    for l in range(text.n_layer):
        at, source = f'blk.{l}', f'layers.{l}'
        text.add_attention(plan, at, source, True)
        text.add_ffn_norm(plan, at, source)
        if n_expert:
            mixtral_experts(plan, text, at, source, n_expert)
        else:
            text.add_dense(plan, at, f'{source}.mlp', text.n_ff)
    return plan, text.n_vocab


# ---- models with pictures ----

def without_language_model(name):
    """Text tensors by their bare names; `model.` may stand before everything, before nothing, or within."""
    for prefix in ('model.language_model.', 'language_model.model.', 'language_model.', 'model.'):
        if name.startswith(prefix):
            return name[len(prefix):]
    return name


def add_vision_layer(plan, at, source, W, M, names, biases):
    """A layer of an encoder; `names` are ours for the output of attention and the two matrices of the feed-forward part."""
    for mine, name in (('attn_norm', 'input_layernorm'), ('ffn_norm', 'post_attention_layernorm')):
        for part in ('weight', 'bias'):
            plan.add(f'{at}.{mine}.{part}', f'{source}.{name}.{part}', (W,))
    for mine, name in (('attn_q', 'q'), ('attn_k', 'k'), ('attn_v', 'v'), (names[0], 'o')):
        plan.add(f'{at}.{mine}.weight', f'{source}.self_attn.{name}_proj.weight', (W, W))
        if biases:
            plan.add(f'{at}.{mine}.bias', f'{source}.self_attn.{name}_proj.bias', (W,))
    for mine, name, n_in, n_out in ((names[1], 'fc1', W, M), (names[2], 'fc2', M, W)):
        plan.add(f'{at}.{mine}.weight', f'{source}.mlp.{name}.weight', (n_out, n_in))
        plan.add(f'{at}.{mine}.bias', f'{source}.mlp.{name}.bias', (n_out,))


# ---- Llama 3.2 Vision ----

def mllama_cross(plan, text, at, source):
    """Rows, norms and gates as they are stored: the gates are raw, and nothing turns."""
    D, d, q, kv = text.n_embd, text.d_head, text.n_head * text.d_head, text.n_head_kv * text.d_head
    plan.add(f'{at}.attn_norm.weight', f'{source}.input_layernorm.weight', (D,))
    for name, n_in, n_out in (('q', D, q), ('k', D, kv), ('v', D, kv), ('o', q, D)):
        plan.add(f'{at}.cross_attn_{name}_proj.weight', f'{source}.cross_attn.{name}_proj.weight', (n_out, n_in))
    for name in ('q_norm', 'k_norm'):
        plan.add(f'{at}.cross_attn_{name}.weight', f'{source}.cross_attn.{name}.weight', (d,))
    for name in ('cross_attn_attn_gate', 'cross_attn_mlp_gate'):
        plan.add(f'{at}.{name}', f'{source}.{name}', (1,))


def mllama_vision(plan, config, n_embd):
    W, M, T = config.whole('hidden_size', 1280), config.whole('intermediate_size', 5120), config.whole('max_num_tiles', 4, most=64)
    P, S, n_channel = config.whole('patch_size', 14), config.whole('image_size', 448), config.whole('num_channels', 3)
    kept, n_local, n_global = config.wholes('intermediate_layers_indices', [3, 7, 15, 23, 30]), config.whole('num_hidden_layers', 32, most=MAX_LAYERS), config.whole('num_global_layers', 8, most=MAX_LAYERS)
    pairs = [[high, wide] for high in range(1, T + 1) for wide in range(1, T // high + 1)]
    config.only('supported_aspect_ratios', pairs, pairs)
    config.only('hidden_act', 'gelu', 'gelu')
    if S % P:
        config.fail('patch_size', f'patches of {P} do not fill tiles of {S}')
    n, R = (S // P) ** 2 + 1, len(pairs) + 1
    for suffix, kind, value in (
            ('block_count', U32, n_local), ('global.block_count', U32, n_global), ('intermediate_layers_indices', I32, kept), ('embedding_length', U32, W),
            ('feed_forward_length', U32, M), ('attention.head_count', U32, config.whole('attention_heads', 16)), ('attention.layer_norm_epsilon', F32, config.real('norm_eps', 1e-5, 0.0, 1.0)),
            ('image_size', U32, S), ('patch_size', U32, P), ('max_num_tiles', U32, T), ('num_channels', U32, n_channel)):
        plan.key(f'vision.{suffix}', kind, value)
    plan.add('v.class_embd', 'vision_model.class_embedding', (W,))
    plan.add('v.patch_embd.weight', 'vision_model.patch_embedding.weight', (W, n_channel, P, P))
    plan.add('v.position_embd.weight', 'vision_model.gated_positional_embedding.embedding', (n, W), TABLE)
    # One gate, kept twice: for what it lets through, and for the rest.
    plan.add('v.position_embd.gate', 'vision_model.gated_positional_embedding.gate', (1,), change=one_minus_tanh, again=True)
    plan.add('v.tile_position_embd.gate', 'vision_model.gated_positional_embedding.gate', (1,), change=tanh)
    plan.add('v.tile_position_embd.weight', 'vision_model.gated_positional_embedding.tile_embedding.weight', (R, T * n * W), TABLE)
    for name in ('pre_tile', 'post_tile'):
        plan.add(f'v.{name}_position_embd.weight', f'vision_model.{name}_positional_embedding.embedding.weight', (R, T * W), TABLE)
        plan.add(f'v.{name}_position_embd.gate', f'vision_model.{name}_positional_embedding.gate', (1,), change=tanh)
    for mine, name in (('pre_ln', 'layernorm_pre'), ('post_ln', 'layernorm_post')):
        for part in ('weight', 'bias'):
            plan.add(f'v.{mine}.{part}', f'vision_model.{name}.{part}', (W,))
    names = ('attn_output', 'ffn_up', 'ffn_down')
    for l in range(n_local):
        add_vision_layer(plan, f'v.blk.{l}', f'vision_model.transformer.layers.{l}', W, M, names, False)
    for l in range(n_global):
        at, source = f'v.global.blk.{l}', f'vision_model.global_transformer.layers.{l}'
        add_vision_layer(plan, at, source, W, M, names, False)
        plan.add(f'{at}.attn_gate', f'{source}.gate_attn', (1,), change=tanh)
        plan.add(f'{at}.ffn_gate', f'{source}.gate_ffn', (1,), change=tanh)
    width = W * (1 + len(kept))
    config.only('vision_output_dim', width, width)
    plan.add('mm.0.weight', 'multi_modal_projector.weight', (n_embd, width))
    plan.add('mm.0.bias', 'multi_modal_projector.bias', (n_embd,))


def mllama(checkpoint, kind):
    config = checkpoint.config.part('text_config')
    text, plan = Text(config, 'mllama'), Plan('mllama', checkpoint, without_language_model, kind)
    cross = config.wholes('cross_attention_layers', [3, 8, 13, 18, 23, 28, 33, 38])
    checkpoint.config.only('image_token_index', text.n_vocab, text.n_vocab)        # the token behind those that can be chosen
    if not cross or sorted(set(cross)) != cross or not 0 <= cross[0] <= cross[-1] < text.n_layer:
        config.fail('cross_attention_layers', f'{cross}: not ascending numbers of the {text.n_layer} layers')
    text.add_keys(plan)
    plan.key('attention.cross_attention_layers', I32, cross)
    text.add_frame(plan, text.n_vocab + 8)
    for l in range(text.n_layer):
        at, source = f'blk.{l}', f'layers.{l}'
        if l in cross:
            mllama_cross(plan, text, at, source)
        else:
            text.add_attention(plan, at, source, True)
        text.add_ffn_norm(plan, at, source)
        text.add_dense(plan, at, f'{source}.mlp', text.n_ff)
    mllama_vision(plan, checkpoint.config.part('vision_config'), text.n_embd)
    return plan, text.n_vocab + 1


# ---- Llama 4 ----

TURN_STEP = 4       # every so many layers one does not turn; the library has no key for it


def llama4_keys(plan, text, config):
    """Keys, and what must be as the library has it for want of a key. Returns the layers with experts."""
    n, step = text.n_layer, config.whole('interleave_moe_layer_step', 1)
    experts = list(range(step - 1, n, step))
    turning = [int((l + 1) % TURN_STEP != 0) for l in range(n)]
    config.only('moe_layers', experts, experts)
    if config.get('no_rope_layers') != []:              # an empty list says: as usual
        config.only('no_rope_layers', turning, turning)
    config.only('no_rope_layer_interval', TURN_STEP, TURN_STEP)
    kinds = ['chunked_attention' if turns else 'full_attention' for turns in turning]
    config.only('layer_types', kinds, kinds)
    config.only('floor_scale', 8192, 8192)
    config.only('attn_scale', 0.1, 0.1)
    if not config.get('attn_temperature_tuning', True):
        config.fail('attn_temperature_tuning', 'only models with it are supported')
    for suffix, kind, value in (
            ('expert_count', U32, config.whole('num_local_experts', 16)), ('expert_used_count', U32, config.whole('num_experts_per_tok', 1)),
            ('expert_feed_forward_length', U32, config.whole('intermediate_size')), ('interleave_moe_layer_step', U32, step),
            ('use_qk_norm', BOOL, config.flag('use_qk_norm', True)), ('attention.chunk_size', U32, config.whole('attention_chunk_size', 8192))):
        plan.key(suffix, kind, value)
    return experts


def llama4_experts(plan, text, at, source, n_expert, n_ff):
    """Gate and up are one tensor, [expert, in, gate's outputs then up's]."""
    D = text.n_embd
    plan.add(f'{at}.ffn_gate_inp.weight', f'{source}.router.weight', (n_expert, D), EXACT)
    for name, first in (('gate', 0), ('up', n_ff)):
        plan.add(f'{at}.ffn_{name}_exps.weight', f'{source}.experts.gate_up_proj', (n_expert, D, 2 * n_ff), change=columns_of_experts(first, first + n_ff),
                 written=(n_expert, n_ff, D), again=name == 'gate')
    plan.add(f'{at}.ffn_down_exps.weight', f'{source}.experts.down_proj', (n_expert, n_ff, D), change=columns_of_experts(0, D), written=(n_expert, D, n_ff))
    for name, n_in, n_out in (('gate', D, n_ff), ('up', D, n_ff), ('down', n_ff, D)):
        plan.add(f'{at}.ffn_{name}_shexp.weight', f'{source}.shared_expert.{name}_proj.weight', (n_out, n_in))


def llama4_vision(plan, config, n_embd):
    W, M, P, S = (config.whole(key, usual) for key, usual in (('hidden_size', 768), ('intermediate_size', 5632), ('patch_size', 14), ('image_size', 448)))
    A, n_channel, n_layer = config.whole('projector_input_dim', 4096), config.whole('num_channels', 3), config.whole('num_hidden_layers', 34, most=MAX_LAYERS)
    config.only('projector_output_dim', A, A)
    config.only('vision_output_dim', A, A)
    config.only('pixel_shuffle_ratio', 0.5, 0.5)
    config.only('multi_modal_projector_bias', False, False)
    config.only('hidden_act', 'gelu', 'gelu')
    rope_base = config.part('rope_parameters').real('rope_theta', config.get('rope_theta', 10000.0), 1.0)
    for suffix, kind, value in (
            ('block_count', U32, n_layer), ('embedding_length', U32, W), ('feed_forward_length', U32, M), ('attention.head_count', U32, config.whole('num_attention_heads', 16)),
            ('image_size', U32, S), ('patch_size', U32, P), ('rope.freq_base', F32, rope_base), ('layer_norm_epsilon', F32, config.real('norm_eps', 1e-5, 0.0, 1.0)),
            ('pixel_shuffle_ratio', F32, 0.5)):
        plan.key(f'vision.{suffix}', kind, value)
    plan.add('v.class_embedding', 'vision_model.class_embedding', (W,))
    plan.add('v.positional_embedding_vlm', 'vision_model.positional_embedding_vlm', ((S // P) ** 2 + 1, W), TABLE)
    plan.add('v.patch_embedding.weight', 'vision_model.patch_embedding.linear.weight', (W, n_channel * P * P))
    for name in ('layernorm_pre', 'layernorm_post'):
        for part in ('weight', 'bias'):
            plan.add(f'v.{name}.{part}', f'vision_model.{name}.{part}', (W,))
    for l in range(n_layer):
        add_vision_layer(plan, f'v.blk.{l}', f'vision_model.model.layers.{l}', W, M, ('attn_output', 'mlp.fc1', 'mlp.fc2'), True)
    plan.add('v.vision_adapter.mlp.fc1.weight', 'vision_model.vision_adapter.mlp.fc1.weight', (A, 4 * W))
    plan.add('v.vision_adapter.mlp.fc2.weight', 'vision_model.vision_adapter.mlp.fc2.weight', (A, A))
    plan.add('mm.linear_1.weight', 'multi_modal_projector.linear_1.weight', (n_embd, A))


def llama4(checkpoint, kind):
    whole = checkpoint.config.get('model_type') == 'llama4'     # else the text model alone
    config = checkpoint.config.part('text_config') if whole else checkpoint.config
    text, plan = Text(config, 'llama4'), Plan('llama4', checkpoint, without_language_model, kind)
    text.n_ff, n_ff_expert = config.whole('intermediate_size_mlp', 16384), config.whole('intermediate_size')
    text.add_keys(plan)
    experts = llama4_keys(plan, text, config)
    text.add_frame(plan, text.n_vocab)
    for l in range(text.n_layer):
        at, source = f'blk.{l}', f'layers.{l}'
        text.add_attention(plan, at, source, False)
        text.add_ffn_norm(plan, at, source)
        if l in experts:
            llama4_experts(plan, text, at, f'{source}.feed_forward', config.whole('num_local_experts', 16), n_ff_expert)
        else:
            text.add_dense(plan, at, f'{source}.feed_forward', text.n_ff)
    if whole:
        llama4_vision(plan, checkpoint.config.part('vision_config'), text.n_embd)
    return plan, text.n_vocab


# model_type in config.json -> (checkpoint, type of the matrices) -> (plan, number of tokens)
FAMILIES = {'llama': llama, 'mistral': llama, 'mixtral': llama, 'mllama': mllama, 'llama4': llama4, 'llama4_text': llama4}


def plan_of(checkpoint, kind):
    config = checkpoint.config
    model_type = config.get('model_type')
    if not isinstance(model_type, str) or model_type not in FAMILIES:
        config.fail('model_type', f'{model_type!r} is not converted; these are: {", ".join(FAMILIES)}')
    if config.get('quantization_config') is not None:
        config.fail('quantization_config', 'the weights are quantized already; the folder with those that are not is wanted')
    plan, n_tokens = FAMILIES[model_type](checkpoint, kind)
    plan.finish()
    return plan, n_tokens
