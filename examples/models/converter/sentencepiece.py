# SPDX-License-Identifier: MIT
"""Reads tokenizer.model, a SentencePiece model: a message of protocol buffers, whose fields are those of sentencepiece_model.proto."""
import struct

from .checkpoint import Refused, read_file

KINDS = range(1, 7)                 # normal, unknown, control, user-defined, unused, byte: the numbers are those of GGUF
PAIRS = 2                           # model_type
PIECE, TRAINER, NORMALIZER = 1, 2, 3
# Fields and their defaults. Trainer: model_type and the ids of unknown, begin, end, padding; normalizer: charsmap, add_dummy_prefix, remove_extra_whitespaces.
TRAINER_DEFAULTS = {3: 1, 40: 0, 41: 1, 42: 2, 43: -1}
NORMALIZER_DEFAULTS = {2: b'', 3: 1, 4: 1}
ROLES = {'unknown': 40, 'bos': 41, 'eos': 42, 'padding': 43}


class Message:
    def __init__(self, data, where):
        self.data, self.where = data, where

    def torn(self):
        raise Refused(f'{self.where}: not a SentencePiece model')

    def varint(self, at):
        value = 0
        for shift in range(0, 70, 7):
            if at >= len(self.data):
                break
            value |= (self.data[at] & 127) << shift
            at += 1
            if self.data[at - 1] < 128:
                return value, at
        self.torn()

    def fields(self):
        """(number, value) of each field; values are whole numbers, 4 or 8 bytes, or messages."""
        at, sizes = 0, {1: 8, 5: 4}
        while at < len(self.data):
            tag, at = self.varint(at)
            number, wire = tag >> 3, tag & 7
            if not number or wire not in (0, 1, 2, 5):
                self.torn()
            size, at = (sizes[wire], at) if wire in sizes else self.varint(at)
            if wire == 0:
                yield number, size          # the number itself
                continue
            if size > len(self.data) - at:
                self.torn()
            yield number, self.data[at:at + size]
            at += size

    def take(self, value, kind):
        if not isinstance(value, kind):
            self.torn()
        return value


def read_piece(data, where):
    message, text, score, kind = Message(data, where), b'', 0.0, 1
    for number, value in message.fields():
        if number == 1:
            text = message.take(value, bytes)
        elif number == 2:
            if len(message.take(value, bytes)) != 4:
                message.torn()
            score, = struct.unpack('<f', value)
        elif number == 3:
            kind = message.take(value, int)
    if kind not in KINDS or score != score:
        raise Refused(f'{where}: piece {text!r}: kind {kind}, score {score}')
    return text.decode('utf-8', 'surrogateescape'), kind, score


def read(path):
    """([(text, kind, score)] by id, role -> id, whether a space goes in front of a text)"""
    message = Message(read_file(path), path)
    pieces, trainer, normalizer = [], dict(TRAINER_DEFAULTS), dict(NORMALIZER_DEFAULTS)
    for number, value in message.fields():
        if number == PIECE:
            pieces.append(read_piece(message.take(value, bytes), path))
        elif number in (TRAINER, NORMALIZER):
            (trainer if number == TRAINER else normalizer).update(Message(message.take(value, bytes), path).fields())
    if not pieces:
        message.torn()
    if trainer[3] != PAIRS:
        raise Refused(f'{path}: model_type {trainer[3]}: only {PAIRS}, pairs, is supported')
    if normalizer[2] or normalizer[4]:
        raise Refused(f'{path}: its normalizer changes texts, which the library does not do')
    roles = {role: trainer[field] for role, field in ROLES.items() if trainer[field] in range(len(pieces))}
    return pieces, roles, bool(normalizer[3])
