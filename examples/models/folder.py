# SPDX-License-Identifier: MIT
"""The model as a folder in the form of Hugging Face's MllamaForConditionalGeneration: config.json, model.safetensors (F32), tokenizer.json."""
import json
import struct

import tokens
import torch
from model import Mllama


def config(sizes, tokenizer):
    v, t = sizes['vision'], sizes['text']
    end = tokenizer.id['<|eot_id|>']
    return {
        'architectures': ['MllamaForConditionalGeneration'], 'model_type': 'mllama', 'image_token_index': tokenizer.image, 'torch_dtype': 'float32', 'tie_word_embeddings': False,
        'vision_config': {
            'model_type': 'mllama_vision_model', 'hidden_size': v['width'], 'attention_heads': v['heads'], 'intermediate_size': v['hidden'], 'num_hidden_layers': v['local'],
            'num_global_layers': v['global'], 'image_size': v['side'], 'patch_size': v['patch'], 'max_num_tiles': v['tiles'], 'num_channels': 3, 'norm_eps': v['eps'],
            'intermediate_layers_indices': v['kept'], 'vision_output_dim': v['width'] * (1 + len(v['kept'])), 'supported_aspect_ratios': [[1, 1]], 'hidden_act': 'gelu'},
        'text_config': {
            'model_type': 'mllama_text_model', 'vocab_size': tokenizer.n_vocab, 'hidden_size': t['width'], 'num_attention_heads': t['heads'], 'num_key_value_heads': t['kv_heads'],
            'num_hidden_layers': t['layers'], 'intermediate_size': t['hidden'], 'cross_attention_layers': t['cross'], 'rms_norm_eps': t['eps'], 'rope_theta': t['rope_base'],
            'rope_scaling': None, 'max_position_embeddings': t['context'], 'hidden_act': 'silu', 'tie_word_embeddings': False, 'bos_token_id': tokenizer.id['<|begin_of_text|>'],
            'eos_token_id': [end, tokenizer.id['<|end_of_text|>']], 'pad_token_id': tokenizer.id['<|finetune_right_pad_id|>']}}


def sizes_of(conf):
    v, t = conf['vision_config'], conf['text_config']
    return {
        'vision': {'width': v['hidden_size'], 'heads': v['attention_heads'], 'hidden': v['intermediate_size'], 'local': v['num_hidden_layers'], 'global': v['num_global_layers'],
                   'side': v['image_size'], 'patch': v['patch_size'], 'tiles': v['max_num_tiles'], 'kept': v['intermediate_layers_indices'], 'eps': v['norm_eps']},
        'text': {'width': t['hidden_size'], 'heads': t['num_attention_heads'], 'kv_heads': t['num_key_value_heads'], 'hidden': t['intermediate_size'], 'layers': t['num_hidden_layers'],
                 'cross': t['cross_attention_layers'], 'context': t['max_position_embeddings'], 'rope_base': t['rope_theta'], 'eps': t['rms_norm_eps']}}


def write_safetensors(path, tensors):
    header, data = {}, []
    at = 0
    for name, tensor in tensors.items():
        raw = tensor.detach().float().contiguous().cpu().numpy().astype('<f4').tobytes()
        header[name] = {'dtype': 'F32', 'shape': list(tensor.shape), 'data_offsets': [at, at + len(raw)]}
        data.append(raw)
        at += len(raw)
    head = json.dumps(header).encode()
    head += b' ' * (-len(head) % 8)
    path.write_bytes(struct.pack('<Q', len(head)) + head + b''.join(data))


def read_safetensors(path):
    raw = path.read_bytes()
    size, = struct.unpack('<Q', raw[:8])
    header = json.loads(raw[8:8 + size])
    return {name: torch.frombuffer(bytearray(raw[8 + size + row['data_offsets'][0]:8 + size + row['data_offsets'][1]]), dtype=torch.float32).view(row['shape'])
            for name, row in header.items() if name != '__metadata__'}


def write_folder(folder, model, tokenizer):
    folder.mkdir(parents=True, exist_ok=True)
    conf = config(model.sizes, tokenizer)
    write_safetensors(folder / 'model.safetensors', model.state_dict())
    special = {'bos_token': '<|begin_of_text|>', 'eos_token': '<|eot_id|>', 'pad_token': '<|finetune_right_pad_id|>'}
    for name, content in (('config', conf), ('tokenizer', tokenizer.to_json()),
                          ('tokenizer_config', {**special, 'tokenizer_class': 'PreTrainedTokenizerFast', 'chat_template': tokens.CHAT_TEMPLATE, 'model_max_length': model.sizes['text']['context']}),
                          ('generation_config', {'do_sample': False, 'bos_token_id': conf['text_config']['bos_token_id'], 'eos_token_id': conf['text_config']['eos_token_id'],
                                                 'pad_token_id': conf['text_config']['pad_token_id']})):
        (folder / f'{name}.json').write_text(json.dumps(content, indent=1, ensure_ascii=False) + '\n')


def read_folder(folder):
    """The model and its tokenizer."""
    model = Mllama(sizes_of(json.loads((folder / 'config.json').read_text())), (tokenizer := tokens.from_json(folder / 'tokenizer.json')).n_vocab)
    model.load_state_dict(read_safetensors(folder / 'model.safetensors'))
    return model, tokenizer
