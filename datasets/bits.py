"""Random numbers that are a pure function of a name and a row number, in 64-bit integer arithmetic only.

Row 7 of a column has the same value whether one row or a billion are asked for, in whatever order and chunk size.
That lets every table be generated in pieces, and lets one table look up a value of another without storing it.

The mixing function is SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
`numpy.random` is not used: NumPy promises a stable stream for its bit generators, but not for the distributions of its
`Generator` (NEP 19). There is no floating point here, so neither the CPU nor the C library can change a bit.
"""

import hashlib

import numpy as np

SEED = "Larkmoor 2025"

_WEYL = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


def draw(name, rows):
    """Return one uniform uint64 per row number in `rows`; `name` picks the independent stream."""
    key = np.uint64(int.from_bytes(hashlib.sha256(f"{SEED}/{name}".encode()).digest()[:8], "little"))
    z = rows.astype(np.uint64) * _WEYL + key
    z = (z ^ (z >> np.uint64(30))) * _MIX_1
    z = (z ^ (z >> np.uint64(27))) * _MIX_2
    return z ^ (z >> np.uint64(31))


def below(name, rows, limit):
    """Return one int64 per row, uniform in 0 … `limit` - 1; `limit` is a number or an array, under 2**31."""
    high = draw(name, rows) >> np.uint64(32)
    return ((high * np.asarray(limit, np.uint64)) >> np.uint64(32)).astype(np.int64)


def one_in(name, rows, odds):
    """Return one boolean per row, true for about one row in `odds`."""
    return below(name, rows, odds) == 0


def choose(name, rows, weights):
    """Return one index into `weights` per row, each as often as its integer weight says (to one part in 65,536)."""
    edges = np.cumsum(np.asarray(weights, np.int64))
    slots = np.arange(1 << 16, dtype=np.int64)
    table = np.searchsorted(edges * (1 << 16), slots * edges[-1], side="right").astype(np.int64)
    return table[(draw(name, rows) >> np.uint64(48)).astype(np.int64)]
