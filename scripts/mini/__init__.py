"""Stages of ``scripts/train_mini_stack.py``, one file each, in the order they run."""
