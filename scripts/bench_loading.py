"""Measures how long a GSLM checkpoint of the published size takes to load, and how much memory, weights random.

python scripts/bench_loading.py --json

Linux only: the peak of resident memory is read as its kernel counts it. The checkpoint (0.6 GB) is written to a
temporary folder and loaded in a process of its own, after a small one that imports what loading needs.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from speechprompt.lm.gslm import GSLM
from speechprompt.lm.transformer import TransformerConfig
from speechprompt.vocab import UnitVocab

_LOAD = """
import json, sys, time
from pathlib import Path
from speechprompt.convert.gslm import read_gslm
from speechprompt.fairseq import read_fairseq

def peak():
    # Not getrusage: its peak is inherited from the process that started this one.
    return 1024 * int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])

read_gslm(read_fairseq(sys.argv[1]))
before, start = peak(), time.perf_counter()
lm, _ = read_gslm(read_fairseq(sys.argv[2]))
opened_s = time.perf_counter() - start
total = sum(float(parameter.sum()) for parameter in lm.parameters())  # mapped pages are read only now
read_s = time.perf_counter() - start
n_bytes = sum(4 * parameter.numel() for parameter in lm.parameters())
print(json.dumps({"parameters": lm.n_parameters(), "seconds_to_open": opened_s, "seconds_all_read": read_s,
                  "peak_over_size": (peak() - before) / n_bytes}))
"""


def write_checkpoint(folder: Path, config: TransformerConfig) -> Path:
    """Write a random checkpoint in fairseq's layout with its dictionary.

    Args:
        folder: made here.
        config: dimensions.
    """
    lm = GSLM(config, UnitVocab.from_n_units(100)).initialise()
    settings = {"decoder_attention_heads": config.n_heads, "tokens_per_sample": config.max_positions}
    folder.mkdir(parents=True)
    model = {f"decoder.{name}": tensor for name, tensor in lm.state_dict().items()}
    torch.save({"model": model, "cfg": {"model": settings}}, folder / "checkpoint.pt")
    (folder / "dict.txt").write_text("".join(f"{s} 1\n" for s in lm.vocab.symbols), encoding="utf-8")
    return folder / "checkpoint.pt"


def measure(large: TransformerConfig) -> dict[str, Any]:
    """Load a model of these dimensions in a fresh process.

    Args:
        large: dimensions.
    """
    with tempfile.TemporaryDirectory() as folder:
        small = write_checkpoint(Path(folder) / "small", TransformerConfig(1, 16, 4, 16))
        file = write_checkpoint(Path(folder) / "large", large)
        command = [sys.executable, "-c", _LOAD, str(small), str(file)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def main(
    n_layers: Annotated[int, typer.Option(help="Layers; the published model has 12.")] = 12,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Print parameters, seconds to open the file and to have read all of it, and peak memory over the model's size."""
    result = measure(TransformerConfig(n_layers, d_model=1024, n_heads=16, d_ffn=4096))
    print(json.dumps(result) if as_json else "\n".join(f"{name:18}{value}" for name, value in result.items()))


if __name__ == "__main__":
    typer.run(main)
