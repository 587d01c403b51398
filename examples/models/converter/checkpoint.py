# SPDX-License-Identifier: MIT
"""Reads a folder in Hugging Face's format: JSON files, and tensors in safetensors files. Everything in them is from strangers: sizes, offsets and names
are proved before they are used, and what is wrong is refused with the file, the tensor or key, and the reason.

A safetensors file is a u64 (little-endian) with the length of a header, the header (JSON: for each tensor its dtype, shape, and first and last + 1 byte in
the data), and the data. The format asks for data without gaps and overlaps. Format: the README of github.com/huggingface/safetensors.
"""
import json
import math
import os
import struct

import numpy as np

MAX_JSON_BYTES = 256 << 20
MAX_HEADER_BYTES = 100 << 20        # the limit of the format's own reader
MAX_DIMENSIONS = 8
# Bytes of an element of each dtype; of those that are read also how they lie in memory. A BF16 is the upper half of an F32.
DTYPE_BYTES = {'BOOL': 1, 'U8': 1, 'I8': 1, 'F8_E5M2': 1, 'F8_E4M3': 1, 'F8_E8M0': 1, 'I16': 2, 'U16': 2, 'F16': 2, 'BF16': 2, 'I32': 4, 'U32': 4, 'F32': 4, 'F64': 8, 'I64': 8, 'U64': 8}
STORED_AS = {'F32': '<f4', 'F16': '<f2', 'BF16': '<u2'}


class Refused(Exception):
    """What cannot be converted, and why: "place: reason"."""


def to_float(array):
    """Values as float32. Arrays of u16 hold bfloats (STORED_AS)."""
    if array.dtype == np.uint16:
        return (np.ascontiguousarray(array).astype(np.uint32) << 16).view(np.float32)
    return array.astype(np.float32)


# ---- JSON ----

def unique(pairs):
    members = dict(pairs)
    if len(members) != len(pairs):
        seen = set()
        raise ValueError(f'{next(key for key, _ in pairs if key in seen or seen.add(key))!r} stands there twice')
    return members


def parse_json(data, where):
    """An object, whose members stand there once each."""
    def constant(text):
        raise ValueError(f'{text} is no JSON')
    try:
        value = json.loads(data.decode('utf-8'), object_pairs_hook=unique, parse_constant=constant)
    except (ValueError, RecursionError) as error:       # a UnicodeDecodeError is a ValueError
        raise Refused(f'{where}: not JSON: {error}') from None
    if not isinstance(value, dict):
        raise Refused(f'{where}: not an object of JSON')
    return value


def read_file(path, most=MAX_JSON_BYTES):
    try:
        with open(path, 'rb') as file:
            if os.fstat(file.fileno()).st_size > most:
                raise Refused(f'{path}: more than {most} bytes')
            return file.read()
    except OSError as error:
        raise Refused(f'{path}: {error.strerror}') from None


def read_json(path):
    return parse_json(read_file(path), path)


class Config:
    """Members of config.json, or of an object in it, by key; a wrong one is refused by name. A member that is null counts as absent."""

    def __init__(self, members, where):
        self.members, self.where = members, where

    def fail(self, key, reason):
        raise Refused(f'{self.where}: {key}: {reason}')

    def get(self, key, fallback=None):
        value = self.members.get(key)
        return fallback if value is None else value

    def whole(self, key, fallback=None, least=1, most=(1 << 31) - 1):
        value = self.get(key, fallback)
        if value is None:
            self.fail(key, 'missing')
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            self.fail(key, f'{value!r}, not a whole number from {least} to {most}')
        return value

    def real(self, key, fallback=None, least=0.0, most=1e15):
        value = self.get(key, fallback)
        if value is None:
            self.fail(key, 'missing')
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
            self.fail(key, f'{value!r}, not a number from {least} to {most}')
        return float(value)

    def flag(self, key, fallback):
        value = self.get(key, fallback)
        if value not in (True, False):
            self.fail(key, f'{value!r}, neither true nor false')
        return bool(value)

    def wholes(self, key, fallback=None):
        value = self.get(key, fallback)
        if not isinstance(value, list) or not all(isinstance(x, int) and not isinstance(x, bool) for x in value):
            self.fail(key, 'missing' if value is None else 'not a list of whole numbers')
        return value

    def part(self, key):
        value = self.get(key, {})
        if not isinstance(value, dict):
            self.fail(key, 'not an object')
        return Config(value, f'{self.where}: {key}')

    def only(self, key, wanted, fallback=None):
        """The one value with which the mathematics is what the library computes."""
        value = self.get(key, fallback)
        if value != wanted:
            self.fail(key, f'{value!r}, but only {wanted!r} is supported')


# ---- tensors ----

class Entry:
    """A tensor of a file: `first` is the place of its first byte in the file."""

    def __init__(self, path, name, dtype, shape, first):
        self.path, self.name, self.dtype, self.shape, self.first = path, name, dtype, shape, first

    def fail(self, reason):
        raise Refused(f'{self.path}: tensor {self.name}: {reason}')

    def array(self):
        """The tensor where it lies: nothing is read before it is looked at, and what was read is given back with the array."""
        return np.memmap(self.path, STORED_AS[self.dtype], 'r', self.first, self.shape) if math.prod(self.shape) else np.zeros(self.shape, STORED_AS[self.dtype])


def is_size(value):
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63


def read_entry(path, name, row, first, n_data):
    where = f'{path}: tensor {name}'
    if not isinstance(row, dict) or set(row) != {'dtype', 'shape', 'data_offsets'}:
        raise Refused(f'{where}: not described by dtype, shape and data_offsets')
    dtype, shape, span = row['dtype'], row['shape'], row['data_offsets']
    if not isinstance(dtype, str) or dtype not in DTYPE_BYTES:
        raise Refused(f'{where}: dtype {str(dtype)[:40]!r} is not known')
    if not isinstance(shape, list) or len(shape) > MAX_DIMENSIONS or not all(map(is_size, shape)):
        raise Refused(f'{where}: its shape is no list of up to {MAX_DIMENSIONS} sizes')
    if not isinstance(span, list) or len(span) != 2 or not all(map(is_size, span)) or not span[0] <= span[1] <= n_data:
        raise Refused(f'{where}: its data_offsets are no place in the {n_data} bytes of data')
    if span[1] - span[0] != math.prod(shape) * DTYPE_BYTES[dtype]:
        raise Refused(f'{where}: {span[1] - span[0]} bytes for shape {shape} of {dtype}')
    return Entry(path, name, dtype, tuple(shape), first + span[0]), span


def read_safetensors(path):
    """name -> Entry"""
    try:
        with open(path, 'rb') as file:
            n_file = os.fstat(file.fileno()).st_size
            start = file.read(8)
            if len(start) < 8:
                raise Refused(f'{path}: {n_file} bytes are no safetensors file')
            n_header, = struct.unpack('<Q', start)
            if n_header > min(MAX_HEADER_BYTES, n_file - 8):
                raise Refused(f'{path}: a header of {n_header} bytes in a file of {n_file} (at most {MAX_HEADER_BYTES} are read)')
            header = file.read(n_header)
    except OSError as error:
        raise Refused(f'{path}: {error.strerror}') from None
    rows = parse_json(header, f'{path}: header')
    rows.pop('__metadata__', None)
    entries, spans, n_data = {}, [], n_file - 8 - n_header
    for name, row in rows.items():
        entries[name], span = read_entry(path, name, row, 8 + n_header, n_data)
        spans.append((*span, name))
    end = 0
    for first, last, name in sorted(spans):
        if first != end:
            raise Refused(f'{path}: tensor {name}: its data {"overlap others" if first < end else "follow a gap"}')
        end = last
    if end != n_data:
        raise Refused(f'{path}: {n_data - end} bytes of data belong to no tensor')
    return entries


def read_shards(folder, index_path):
    """name -> Entry, from the files that the index names; each tensor is where the index says, and in no other file."""
    where = Config(read_json(index_path), index_path).get('weight_map')
    if not isinstance(where, dict) or not where:
        raise Refused(f'{index_path}: weight_map: missing')
    for name, file in where.items():
        if not isinstance(file, str) or file != os.path.basename(file) or not file.endswith('.safetensors'):
            raise Refused(f'{index_path}: weight_map: {name}: {str(file)[:80]!r} is no safetensors file of this folder')
    files = {file: read_safetensors(os.path.join(folder, file)) for file in sorted(set(where.values()))}
    for file, entries in files.items():
        for name, entry in entries.items():
            if where.get(name) != file:
                entry.fail(f'{index_path} says otherwise: {where.get(name, "no such tensor")}')
    for name, file in where.items():
        if name not in files[file]:
            raise Refused(f'{os.path.join(folder, file)}: tensor {name}: missing, but named in {index_path}')
    return {name: files[file][name] for name, file in where.items()}


class Checkpoint:
    """A folder: its files by name, its configuration, its tensors."""

    def __init__(self, folder):
        self.folder = folder
        if not os.path.isdir(folder):
            raise Refused(f'{folder}: not a folder')
        self.config = Config(read_json(self.path('config.json')), self.path('config.json'))

    def path(self, name):
        return os.path.join(self.folder, name)

    def has(self, name):
        return os.path.isfile(self.path(name))

    def optional(self, name):
        """The object in a JSON file, or an empty one."""
        return Config(read_json(self.path(name)) if self.has(name) else {}, self.path(name))

    def tensors(self):
        if self.has('model.safetensors.index.json'):
            return read_shards(self.folder, self.path('model.safetensors.index.json'))
        if self.has('model.safetensors'):
            return read_safetensors(self.path('model.safetensors'))
        raise Refused(f'{self.folder}: neither model.safetensors nor model.safetensors.index.json (other kinds of files are not read)')
