"""Fails unless a quickstart's metrics.json holds what the project promises.

python scripts/check_quickstart.py quickstart/metrics.json
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path

ACCURACY_FLOOR = 0.95
KEYS = (
    "accuracy",
    "baseline_majority",
    "baseline_ngram",
    "trainable_parameters",
    "frozen_parameters",
    "seconds",
)


def shortfalls(metrics: Mapping[str, float]) -> list[str]:
    """Lists in words what the figures miss; empty when all is well.

    Args:
        metrics: the content of metrics.json.
    """
    missing = [key for key in KEYS if key not in metrics]
    if missing:
        return [f"metrics.json: expected the keys {', '.join(KEYS)}, lacks {', '.join(missing)}"]
    accuracy, ngram = metrics["accuracy"], metrics["baseline_ngram"]
    found = []
    if not accuracy >= ACCURACY_FLOOR:
        found.append(f"accuracy: expected at least {ACCURACY_FLOOR}, got {accuracy:.4f}")
    if not accuracy > ngram:
        found.append(f"accuracy: expected more than the n-gram baseline's {ngram:.4f}, got {accuracy:.4f}")
    return found


def main(path: Path) -> int:
    """Prints the figures of a quickstart's metrics.json, and what they miss; 0 when they hold, 1 otherwise."""
    metrics = json.loads(path.read_text(encoding="utf-8"))
    for key in KEYS:
        print(f"{key:22} {metrics.get(key, 'missing')}")
    found = shortfalls(metrics)
    for line in found:
        print(f"error: {line}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
