# SPDX-License-Identifier: MIT
"""The parts of convert.py: checkpoint (what is read), vocabulary and families (what it means), gguf (what is written)."""
