# SPDX-License-Identifier: MIT
"""Panels for training: a pool of pictures that processes in the background keep renewing, and small changes that make every use of one differ."""
import multiprocessing
import os
import queue

import numpy as np
import panels

CHUNK = 512
ABSENT = len(panels.INSTRUMENTS)        # number of the instrument "none"


def render(split, seed, first, n):
    """Pictures uint8 [n, side, side, 3] and their content int16 [n, 4, 2]: number of the instrument or ABSENT, reading."""
    pictures, contents = np.empty((n, panels.SIDE, panels.SIDE, 3), np.uint8), np.empty((n, 4, 2), np.int16)
    for i in range(n):
        pictures[i], content = panels.make_panel(panels.stream(split, seed, first + i))
        contents[i] = [one or (ABSENT, 0) for one in content]
    return pictures, contents


def work(out, seed, numbers, nice):
    os.nice(nice)
    while True:
        with numbers.get_lock():
            first = numbers.value
            numbers.value += CHUNK
        out.put(render('train', seed, first, CHUNK))


class Pool:
    """`size` pictures of the split `train`; each is used about `uses` times before new ones take the places of the oldest."""
    def __init__(self, size, seed, uses, workers, rng, nice=10):
        self.rng, self.uses, self.drawn, self.at = rng, uses, 0, 0
        context = multiprocessing.get_context('fork')
        self.queue, numbers = context.Queue(8), context.Value('q', 0)
        self.workers = [context.Process(target=work, args=(self.queue, seed, numbers, nice), daemon=True) for _ in range(workers)]
        for worker in self.workers:
            worker.start()
        self.pictures = np.empty((size, panels.SIDE, panels.SIDE, 3), np.uint8)
        self.contents = np.empty((size, 4, 2), np.int16)
        self.filled, self.rendered = 0, 0

    def add(self, block):
        pictures, contents = self.queue.get(block)
        if self.at + CHUNK > len(self.pictures):
            self.at = 0
        self.pictures[self.at:self.at + CHUNK], self.contents[self.at:self.at + CHUNK] = pictures, contents
        self.at += CHUNK
        self.filled = max(self.filled, self.at)
        self.rendered += CHUNK

    def draw(self, n):
        """Pictures and contents: cells trade places in half of the pictures, all are moved a little and get noise of their own."""
        while self.filled < min(4 * CHUNK, len(self.pictures)):
            self.add(True)
        try:
            while self.filled < len(self.pictures) or self.rendered * self.uses < self.drawn:
                self.add(False)
        except queue.Empty:
            pass
        self.drawn += n
        rng, half = self.rng, panels.CELL
        chosen = rng.integers(0, self.filled, n)
        pictures, contents = self.pictures[chosen], self.contents[chosen]
        for i in range(n // 2):
            order = rng.permutation(4)
            cells = pictures[i].reshape(2, half, 2, half, 3).transpose(0, 2, 1, 3, 4).reshape(4, half, half, 3)[order]
            pictures[i] = cells.reshape(2, 2, half, half, 3).transpose(0, 2, 1, 3, 4).reshape(pictures[i].shape)
            contents[i] = contents[i][order]
        pictures = np.roll(pictures, tuple(rng.integers(-1, 2, 2)), (1, 2))
        gain = rng.uniform(0.9, 1.05, (n, 1, 1, 3)).astype(np.float32)
        noise = (rng.standard_normal((16, *pictures.shape[1:]), np.float32) * 5)[rng.integers(0, 16, n)] * rng.uniform(0, 1, (n, 1, 1, 1)).astype(np.float32)
        return np.clip(pictures * gain + noise, 0, 255).astype(np.uint8), contents
