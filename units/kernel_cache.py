"""How many of the kernels that it compiles oneDNN keeps.

On CPUs torch multiplies in bfloat16, and convolves, by kernels that oneDNN compiles for each new shape. Batches of
speech hardly ever have a shape twice, and with what torch allows, 1,024 kernels in each of two caches, training a
language model of 20 MB came to hold 5 GB. It holds 1.6 GB with this bound and is as fast; a vocoder, whose shapes do
come again, has fewer than 80 (docs/performance.md).

Source: oneDNN's developer guide, "Primitive Cache"; ideep's `lru_cache.hpp`.
"""

from __future__ import annotations

import os

KERNELS = 128
_CACHES = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")  # oneDNN's, and that of torch around it


def bound_kernel_cache() -> None:
    """Keep at most KERNELS in each cache; where the environment says another number, that one.

    Both are read when torch needs its first kernel: it changes nothing in a process that has multiplied before.
    """
    for name in _CACHES:
        os.environ.setdefault(name, str(KERNELS))
