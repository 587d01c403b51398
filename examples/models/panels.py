#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Draws instrument panels and asks about them: panels.py FOLDER [--split test] [--seed 1] [-n 300] [--difficulty 1.0]

Writes FOLDER/0000.png ... (112 x 112 pixels) and FOLDER/questions.jsonl, one object per picture: image, question, answer, class. The same
arguments give the same files everywhere. Splits never share a random stream: what is trained on comes from the split `train` alone.
"""
import argparse
import json
import pathlib
import struct
import zlib

import numpy as np

SIDE, CELL = 112, 56                    # pixels of a picture and of the cell of one instrument
SPLITS = {'train': 1, 'validation': 2, 'test': 3}
PLACES = ('top left', 'top right', 'bottom left', 'bottom right')
ABSENT, EMPTY = 'not on this panel', 'nothing'

# Every instrument: kind, label on the panel, name in words, and what its marks mean.
# gauge, bar: first mark, step (11 marks), unit, lowest and highest nominal value; display: digits behind the point, unit.
INSTRUMENTS = (
    ('gauge', 'PRES', 'cabin pressure', 90, 2, 'kPa', 96, 104), ('gauge', 'TEMP', 'cabin temperature', 10, 2, 'C', 18, 26),
    ('gauge', 'OXY', 'oxygen', 16, 1, 'kPa', 19, 23), ('gauge', 'COOL', 'coolant flow', 0, 5, 'l/min', 20, 40), ('gauge', 'LOAD', 'bus load', 0, 10, 'A', 0, 70),
    ('bar', 'WATR', 'water', 0, 10, '%', 30, 100), ('bar', 'BATT', 'battery', 0, 10, '%', 40, 100), ('bar', 'NITR', 'nitrogen', 0, 10, '%', 20, 100),
    ('bar', 'WAST', 'waste tank', 0, 10, '%', 0, 70), ('bar', 'FUEL', 'propellant', 0, 10, '%', 30, 100),
    ('display', 'CO2', 'carbon dioxide', 2, 'kPa'), ('display', 'VOLT', 'bus voltage', 1, 'V'), ('display', 'RAD', 'radiation', 0, 'uSv'),
    ('display', 'HUM', 'humidity', 1, '%'), ('display', 'RPM', 'fan speed', 0, 'rpm'),
    ('light', 'FIRE', 'fire'), ('light', 'LEAK', 'leak'), ('light', 'DOOR', 'hatch'), ('light', 'COMM', 'radio'), ('light', 'NH3', 'ammonia'),
    ('switch', 'PUMP', 'pump'), ('switch', 'FAN', 'fan'), ('switch', 'HEAT', 'heater'), ('switch', 'LAMP', 'lamp'), ('switch', 'VENT', 'vent'))
KINDS = ('gauge', 'bar', 'display', 'light', 'switch')
LIGHTS = ('green', 'amber', 'red', 'off')
SWITCHES = ('off', 'on')
READINGS = {'gauge': 11, 'bar': 11, 'display': 1000, 'light': 4, 'switch': 2}

QUESTIONS = {
    'gauge': ('What does the {} gauge read?', 'Read the {} gauge.', 'What is the {}?', 'How high is the {}?', 'Give the reading of the {} gauge.', 'What does the gauge say for {}?'),
    'bar': ('What does the {} meter show?', 'Read the {} bar.', 'How full is the {} bar?', 'What is the {} level?', 'Give the level of the {} meter.', 'How much does the bar for {} show?'),
    'display': ('What does the {} display show?', 'Read the {} display.', 'What is the {}?', 'Which number is shown for {}?', 'Give the {} value.', 'What does the display say for {}?'),
    'light': ('What colour is the {} light?', 'What does the {} light show?', 'Which colour has the {} lamp?', 'What is the state of the {} light?', 'Read the {} light.'),
    'switch': ('Is the {} switch on or off?', 'How is the {} switch set?', 'Is the {} on or off?', 'What is the position of the {} switch?', 'Read the {} switch.')}
WHERE = ('Where is the {} {}?', 'In which corner is the {} {}?', 'Find the {} {}.')
WHAT = ('What is at the {}?', 'Which instrument is at the {}?', 'What do you see at the {}?')
DESCRIBE = ('Describe the panel.', 'What does the panel show?', 'Read all instruments.', 'List everything on this panel.')

# Letters of 5 x 7 points, a row of the letter in each pair of hexadecimal digits.
FONT = {letter: [int(rows[i:i + 2], 16) for i in range(0, 14, 2)] for letter, rows in (row.split() for row in (
    'A 0E11111F111111|B 1E11111E11111E|C 0E11101010110E|D 1E11111111111E|E 1F10101E10101F|F 1F10101E101010|G 0E11101711110E|H 1111111F111111|I 0E04040404040E|'
    'K 11121418141211|L 1010101010101F|M 111B1515111111|N 11191513111111|O 0E11111111110E|P 1E11111E101010|R 1E11111E141211|S 0F10100E01011E|T 1F040404040404|'
    'U 1111111111110E|V 11111111110A04|W 1111111515151B|X 11110A040A1111|Y 11110A04040404|2 0E11010608101F|3 1E01010E01011E').split('|'))}
SEGMENTS = (0x77, 0x24, 0x5D, 0x6D, 0x2E, 0x6B, 0x7B, 0x25, 0x7F, 0x6F)     # bits: top, upper left, upper right, middle, lower left, lower right, bottom
HALF = np.arange(CELL, dtype=np.float32) + 0.5
X, Y = HALF[None, :], HALF[:, None]     # centres of a cell's pixels


# ---- shapes: each gives the share of every pixel of a cell that it covers ----

def covered(distance):
    return np.clip(0.5 - distance, 0, 1)


def disc(cx, cy, r):
    return covered(np.hypot(X - cx, Y - cy) - r)


def box(x0, y0, x1, y1):
    return np.clip(np.minimum(X - x0, x1 - X) + 0.5, 0, 1) * np.clip(np.minimum(Y - y0, y1 - Y) + 0.5, 0, 1)


def line(x0, y0, x1, y1, width):
    dx, dy = x1 - x0, y1 - y0
    t = np.clip(((X - x0) * dx + (Y - y0) * dy) / (dx * dx + dy * dy), 0, 1)
    return covered(np.hypot(X - x0 - t * dx, Y - y0 - t * dy) - width / 2)


def paint(cell, mask, colour):
    cell += mask[:, :, None] * (np.asarray(colour, np.float32) - cell)


def write(cell, text, x, y, colour):
    """Puts letters with their top left corner at (x, y)."""
    for i, letter in enumerate(text):
        bits = np.array([[row >> (4 - k) & 1 for k in range(5)] for row in FONT[letter]], np.float32)
        at = cell[y:y + 7, x + 6 * i:x + 6 * i + 5]
        at += bits[:, :, None] * (np.asarray(colour, np.float32) - at)


# ---- instruments: each draws a reading into its cell ----

def angle(mark):
    """Of a needle at mark 0 to 10: three quarters of a circle, clockwise from the lower left; radians, y downwards."""
    return np.deg2rad(135 + 27.0 * mark)


def draw_gauge(cell, rng, row, reading, ink):
    _, _, _, first, step, _, low, high = row
    cx, cy, r = 28 + rng.uniform(-2, 2), 33 + rng.uniform(-1.5, 1.5), rng.uniform(18, 20.5)
    light = rng.random() < 0.5
    face, hand = ((235, 235, 225), (20, 20, 20)) if light else ((25, 28, 32), (250, 250, 250))
    if rng.random() < 0.3:
        hand = (220, 60, 30) if light else (255, 200, 60)
    paint(cell, disc(cx, cy, r + 2), ink)
    paint(cell, disc(cx, cy, r), face)
    for mark in range(11):
        a = angle(mark)
        good = low <= first + step * mark <= high
        paint(cell, line(cx + (r - 1.5) * np.cos(a), cy + (r - 1.5) * np.sin(a), cx + (r - 4.5) * np.cos(a), cy + (r - 4.5) * np.sin(a), 2.2), (40, 170, 70) if good else (220, 50, 40))
    a = angle(reading + rng.uniform(-0.12, 0.12))
    paint(cell, line(cx - 3 * np.cos(a), cy - 3 * np.sin(a), cx + (r - 5) * np.cos(a), cy + (r - 5) * np.sin(a), rng.uniform(2.4, 3.4)), hand)
    paint(cell, disc(cx, cy, 3.2), hand)


def draw_bar(cell, rng, row, reading, ink):
    full = ((70, 200, 90), (80, 170, 250), (250, 190, 60), (230, 230, 230))[rng.integers(4)]
    upright = rng.random() < 0.6
    x0, y0 = (20 + rng.uniform(-2, 2), 12 + rng.uniform(-1, 1)) if upright else (6 + rng.uniform(-1, 1), 25 + rng.uniform(-3, 3))
    wide, long = rng.uniform(13, 17), rng.uniform(39, 41)
    x1, y1 = (x0 + wide, y0 + long) if upright else (x0 + long + 3, y0 + wide)
    paint(cell, box(x0 - 2, y0 - 2, x1 + 2, y1 + 2), ink)
    paint(cell, box(x0, y0, x1, y1), (18, 20, 24))
    share = np.clip((reading + rng.uniform(-0.15, 0.15)) / 10, 0, 1)
    paint(cell, box(x0, y1 - share * (y1 - y0), x1, y1) if upright else box(x0, y0, x0 + share * (x1 - x0), y1), full)
    for mark in range(0, 11):
        if upright:
            y = y1 - mark * (y1 - y0) / 10
            paint(cell, box(x1 + 3, y - 0.5, x1 + (8 if mark % 5 == 0 else 5), y + 0.5), ink)
        else:
            x = x0 + mark * (x1 - x0) / 10
            paint(cell, box(x - 0.5, y1 + 3, x + 0.5, y1 + (8 if mark % 5 == 0 else 5)), ink)


def draw_display(cell, rng, row, reading, ink):
    lit = ((255, 60, 40), (90, 255, 110), (255, 190, 50), (110, 220, 255))[rng.integers(4)]
    x0, y0 = 4 + rng.integers(-2, 3), 19 + rng.integers(-2, 3)
    paint(cell, box(x0 - 1, y0 - 1, x0 + 49, y0 + 27), ink)
    paint(cell, box(x0 + 1, y0 + 1, x0 + 47, y0 + 25), (12, 14, 16))
    for i, digit in enumerate((reading // 100, reading // 10 % 10, reading % 10)):
        x, y, w, h = x0 + 5 + 14 * i, y0 + 4, 8, 9
        ends = ((0, 0, w, 0), (0, 0, 0, h), (w, 0, w, h), (0, h, w, h), (0, h, 0, 2 * h), (w, h, w, 2 * h), (0, 2 * h, w, 2 * h))
        for bit, (ax, ay, bx, by) in enumerate(ends):
            if SEGMENTS[digit] >> (0, 1, 2, 3, 4, 5, 6)[bit] & 1:
                paint(cell, line(x + ax, y + ay, x + bx, y + by, 2.4), lit)
    if row[3]:
        paint(cell, disc(x0 + 5 + 14 * (3 - row[3]) - 3, y0 + 22, 1.4), lit)


def draw_light(cell, rng, row, reading, ink):
    cx, cy, r = 28 + rng.uniform(-3, 3), 32 + rng.uniform(-3, 3), rng.uniform(10, 15)
    colour = np.array(((40, 225, 80), (255, 175, 25), (240, 35, 30), (62, 62, 62))[reading], np.float32) * rng.uniform(0.85, 1.05)
    paint(cell, disc(cx, cy, r + 2.5), ink)
    paint(cell, disc(cx, cy, r), np.minimum(colour, 255))
    paint(cell, disc(cx - r * 0.35, cy - r * 0.35, r * 0.22), np.minimum(colour + (90 if reading < 3 else 30), 255))


def draw_switch(cell, rng, row, reading, ink):
    cx, cy, reach = 28 + rng.uniform(-3, 3), 33 + rng.uniform(-2, 2), rng.uniform(13, 16)
    plate = ((150, 150, 155), (60, 65, 75), (190, 180, 150))[rng.integers(3)]
    paint(cell, box(cx - 10, cy - 19, cx + 10, cy + 19), ink)
    paint(cell, box(cx - 8.5, cy - 17.5, cx + 8.5, cy + 17.5), plate)
    paint(cell, disc(cx, cy, 6), (30, 30, 34))
    end = cy - reach if reading else cy + reach
    paint(cell, line(cx, cy, cx + rng.uniform(-1.5, 1.5), end, 6), (215, 215, 220) if rng.random() < 0.6 else (210, 60, 45))


DRAW = {'gauge': draw_gauge, 'bar': draw_bar, 'display': draw_display, 'light': draw_light, 'switch': draw_switch}


# ---- what a camera adds ----

def blur(picture, sigma):
    side = np.exp(-0.5 / sigma ** 2)
    weights = np.array([side, 1, side], np.float32) / (1 + 2 * side)
    for axis in (0, 1):
        padded = np.pad(picture, [(1, 1) if axis == a else (0, 0) for a in range(3)], mode='edge')
        a, b, c = (np.take(padded, range(i, i + SIDE), axis) for i in range(3))
        picture = weights[0] * a + weights[1] * b + weights[2] * c
    return picture


COSINES = np.array([[np.cos((2 * x + 1) * u * np.pi / 16) * (np.sqrt(1 / 8) if u == 0 else 0.5) for x in range(8)] for u in range(8)], np.float32)
FREQUENCY = np.add.outer(np.arange(8), np.arange(8)).astype(np.float32)


def block_artefacts(picture, strength):
    """Rounds the cosine transform of 8 x 8 blocks, high frequencies more coarsely, as JPEG does."""
    steps = (1 + strength * (2 + FREQUENCY))[:, :, None]
    blocks = (picture - 128).reshape(SIDE // 8, 8, SIDE // 8, 8, 3).transpose(0, 2, 4, 1, 3)
    rounded = np.round(COSINES @ blocks @ COSINES.T / steps[:, :, 0]) * steps[:, :, 0]
    return (COSINES.T @ rounded @ COSINES).transpose(0, 3, 1, 4, 2).reshape(SIDE, SIDE, 3) + 128


def photograph(picture, rng, difficulty):
    if rng.random() < 0.5:
        picture = blur(picture, 0.3 + 0.3 * difficulty * rng.random())
    gain = 1 + difficulty * rng.uniform(-0.2, 0.12)
    slope = difficulty * rng.uniform(-0.12, 0.12, 2)
    ramp = gain + slope[0] * (np.arange(SIDE)[:, None, None] / SIDE - 0.5) + slope[1] * (np.arange(SIDE)[None, :, None] / SIDE - 0.5)
    picture = picture * ramp.astype(np.float32) + rng.standard_normal(picture.shape, np.float32) * np.float32(difficulty * rng.uniform(0, 8))
    if rng.random() < 0.5:
        picture = block_artefacts(picture, difficulty * rng.uniform(0.5, 3))
    return np.clip(np.round(picture), 0, 255).astype(np.uint8)


# ---- panels ----

def make_panel(rng, difficulty=1.0):
    """A picture, uint8 [SIDE, SIDE, 3], and for each of PLACES None or (row of INSTRUMENTS, reading)."""
    dark = rng.random() < 0.65
    ground = rng.uniform(30, 80, 3) if dark else rng.uniform(150, 205, 3)
    ground = ground.mean() + 0.5 * (ground - ground.mean())
    picture = np.empty((SIDE, SIDE, 3), np.float32)
    picture[:] = ground
    ink = (200, 205, 210) if dark else (25, 25, 30)
    kinds = [KINDS[k] for k in rng.integers(0, 5, 4)]
    chosen, content = set(), [None] * 4
    shown = rng.permutation(4)[:rng.choice((1, 2, 3, 4), p=(0.1, 0.3, 0.35, 0.25))]
    for place in sorted(shown):
        cell = picture[place // 2 * CELL:place // 2 * CELL + CELL, place % 2 * CELL:place % 2 * CELL + CELL]
        which = 5 * KINDS.index(kinds[place]) + int(rng.integers(5))
        while which in chosen:
            which = which // 5 * 5 + (which + 1) % 5
        chosen.add(which)
        row = INSTRUMENTS[which]
        reading = int(rng.integers(100, 1000) if row[0] == 'display' else rng.integers(READINGS[row[0]]))
        if rng.random() < 0.5:
            paint(cell, box(1, 0.5, 55, 55), ground * rng.uniform(0.85, 1.15))
        write(cell, row[1], 28 - 3 * len(row[1]) + int(rng.integers(-2, 3)), 2 + int(rng.integers(-1, 2)), ink)
        DRAW[row[0]](cell, rng, row, reading, np.asarray(ink) * 0.6 if dark else ink)
        content[place] = (which, reading)
    return photograph(picture, rng, difficulty), content


def answer_of(which, reading):
    row = INSTRUMENTS[which]
    if row[0] in ('gauge', 'bar'):
        value = row[3] + row[4] * reading
        return f'{value} {row[5]}, {"low" if value < row[6] else "high" if value > row[7] else "nominal"}'
    if row[0] == 'display':
        digits = str(reading)
        return f'{digits[:3 - row[3]]}.{digits[3 - row[3]:]} {row[4]}' if row[3] else f'{digits} {row[4]}'
    return LIGHTS[reading] if row[0] == 'light' else SWITCHES[reading]


def name_of(which):
    return INSTRUMENTS[which][2], {'bar': 'meter'}.get(INSTRUMENTS[which][0], INSTRUMENTS[which][0])


def pick(rng, things):
    return things[int(rng.integers(len(things)))]


def ask_reading(rng, content):
    which, reading = pick(rng, [one for one in content if one])
    kind = INSTRUMENTS[which][0]
    return pick(rng, QUESTIONS[kind]).format(INSTRUMENTS[which][2]), answer_of(which, reading), kind


def ask_absent(rng, content):
    which = pick(rng, [w for w in range(len(INSTRUMENTS)) if w not in [one[0] for one in content if one]])
    return pick(rng, QUESTIONS[INSTRUMENTS[which][0]]).format(INSTRUMENTS[which][2]), ABSENT, 'absent'


def ask_where(rng, content):
    place = pick(rng, [i for i in range(4) if content[i]])
    return pick(rng, WHERE).format(*name_of(content[place][0])), PLACES[place], 'where'


def ask_what(rng, content):
    place = int(rng.integers(4))
    return pick(rng, WHAT).format(PLACES[place]), ' '.join(name_of(content[place][0])) if content[place] else EMPTY, 'what'


def describe(rng, content):
    parts = [f'{PLACES[i]}: {" ".join(name_of(one[0]))}, {answer_of(*one)}' for i, one in enumerate(content) if one]
    return pick(rng, DESCRIBE), '; '.join(parts), 'describe'


ASK = ((0.76, ask_reading), (0.84, ask_absent), (0.92, ask_where), (1.0, ask_what))


def make_question(rng, content):
    """A question about one instrument, its exact answer, and the class of the question."""
    share = rng.random()
    return next(ask for most, ask in ASK if share < most)(rng, content)


def stream(split, seed, index):
    """The random numbers of one sample: no two samples share them, nor do two splits."""
    return np.random.default_rng([SPLITS[split], seed, index])


def make_samples(split, seed, n, difficulty=1.0):
    for index in range(n):
        rng = stream(split, seed, index)
        picture, content = make_panel(rng, difficulty)
        yield picture, *make_question(rng, content)


def png(picture):
    def chunk(kind, data):
        return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))
    high, wide, _ = picture.shape
    rows = np.concatenate([np.zeros((high, 1), np.uint8), picture.reshape(high, -1)], 1)
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', struct.pack('>IIBBBBB', wide, high, 8, 2, 0, 0, 0)) + chunk(b'IDAT', zlib.compress(rows.tobytes(), 9)) + chunk(b'IEND', b'')


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument('folder', type=pathlib.Path)
    options.add_argument('--split', choices=SPLITS, default='test')
    options.add_argument('--seed', type=int, default=1)
    options.add_argument('-n', type=int, default=300)
    options.add_argument('--difficulty', type=float, default=1.0, help='0 to 1: noise, blur, light and block artefacts')
    args = options.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    with open(args.folder / 'questions.jsonl', 'w') as file:
        for i, (picture, question, answer, kind) in enumerate(make_samples(args.split, args.seed, args.n, args.difficulty)):
            (args.folder / f'{i:04}.png').write_bytes(png(picture))
            file.write(json.dumps({'image': f'{i:04}.png', 'question': question, 'answer': answer, 'class': kind}) + '\n')


if __name__ == '__main__':
    main()
