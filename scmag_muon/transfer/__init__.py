"""From coordinates of reference and query to labels and unlikeness: arrays in, arrays out; NumPy and scikit-learn only."""

from __future__ import annotations
