"""Small idx files, written byte by byte."""

import gzip
import struct

import numpy as np


def idx_bytes(array):
    return bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_idx(path, array):
    content = idx_bytes(array)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def pair(folder, *, images=40, labels=None, side=8, ending="", seed=0):
    """The paths of `images` random images and of their labels, of which there may be more or fewer."""
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 256, (images, side, side), dtype=np.uint8)
    classes = np.arange(images if labels is None else labels, dtype=np.uint8) % 3
    return write_idx(folder / f"images{ending}", values), write_idx(folder / f"labels{ending}", classes)
