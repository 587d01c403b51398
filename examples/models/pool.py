# SPDX-License-Identifier: MIT
"""Panels for training: a pool of pictures that processes in the background keep renewing, and small changes that make every use of one differ."""
import multiprocessing
import os
import time

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
    """`size` pictures of the split `train` in files of `folder`, which stay for the next run; each is used about `uses` times before new ones take the places of the
    oldest. The processes that draw belong to the owner; others may open the same folder and use what is there."""
    def __init__(self, folder, size, seed, uses, workers, rng, nice=14):
        self.rng, self.uses, self.drawn, self.workers = rng, uses, 0, []
        folder.mkdir(exist_ok=True)
        self.pictures = self.open(folder / 'pictures', np.uint8, (size, panels.SIDE, panels.SIDE, 3))
        self.contents = self.open(folder / 'contents', np.int16, (size, 4, 2))
        self.place = self.open(folder / 'place', np.int64, (3,))        # of the next chunk; how many are there; how many were ever made
        context = multiprocessing.get_context('fork')
        self.queue, numbers, self.before = context.Queue(8), context.Value('q', int(self.place[2]) + 16 * CHUNK), int(self.place[2])
        for _ in range(workers):
            self.workers.append(context.Process(target=work, args=(self.queue, seed, numbers, nice), daemon=True))
            self.workers[-1].start()

    @staticmethod
    def open(path, kind, shape):
        n = int(np.prod(shape)) * np.dtype(kind).itemsize
        return np.memmap(path, kind, 'r+' if path.exists() and path.stat().st_size == n else 'w+', shape=shape)

    @property
    def rendered(self):
        return int(self.place[2])

    def add(self):
        pictures, contents = self.queue.get()
        at = int(self.place[0]) if self.place[0] + CHUNK <= len(self.pictures) else 0
        self.pictures[at:at + CHUNK], self.contents[at:at + CHUNK] = pictures, contents
        self.place[:] = at + CHUNK, max(self.place[1], at + CHUNK), self.place[2] + CHUNK

    def renew(self):
        while self.place[1] < 4 * CHUNK:
            self.add() if self.workers else time.sleep(1)
        if self.workers and not self.queue.empty() and (self.place[1] < len(self.pictures) or (self.rendered - self.before) * self.uses < self.drawn):
            self.add()

    def draw(self, n):
        """Pictures and contents: cells trade places in half of the pictures, all are moved a little and get noise of their own."""
        self.renew()
        self.drawn += n
        rng, half = self.rng, panels.CELL
        chosen = rng.integers(0, int(self.place[1]), n)
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
