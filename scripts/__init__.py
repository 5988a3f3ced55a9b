"""Recipes and benchmarks: they import every package, nobody imports them."""
