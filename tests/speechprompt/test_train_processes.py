"""Training on two processes. Run as a program under torchrun, this file is one of them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
N_ROWS = 48


def train_on_this_process(folder: Path, stack_folder: Path) -> None:
    import speechprompt as sp
    from tasks import Task, Utterance

    rng = np.random.default_rng(0)
    utterances = [
        Utterance(str(i), "ab"[i % 2], units=np.unique(rng.integers(50, size=9)) + 50 * (i % 2))
        for i in range(N_ROWS)
    ]
    task = Task(
        "planted",
        "classification",
        ("a", "b"),
        {"train": utterances, "valid": utterances[:10]},
        ("accuracy",),
    )
    config = sp.TrainConfig(max_epochs=2, batch_rows=8, speed_perturbation=())
    run = sp.train(task, stack_folder, folder / "run", config=config)
    state = run.prompted.trainable_state()
    np.savez(
        folder / f"process{os.environ['RANK']}.npz", **{name: value.numpy() for name, value in state.items()}
    )


def test_two_processes_share_the_batches_and_end_with_one_prompt(tmp_path: Path, tiny_stack: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
    }
    children = [
        subprocess.Popen(
            [sys.executable, __file__, str(tmp_path), str(tiny_stack)],
            env={
                **os.environ,
                **shared,
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "OMP_NUM_THREADS": "1",
                "PYTHONPATH": str(ROOT),
            },
        )
        for rank in range(2)
    ]
    try:
        codes = [child.wait(timeout=240) for child in children]
    finally:
        for child in children:
            child.kill()
    assert codes == [0, 0]
    from speechprompt.checkpoint import load_prompt
    from speechprompt.run_record import read_record
    from speechprompt.training_log import read_log

    record = read_record(tmp_path / "run")
    assert record.status == "finished"
    history = read_log(tmp_path / "run")
    assert history[-1]["step"] == 2 * N_ROWS / 8 / 2, "each process takes half of the batches of two epochs"
    kept = load_prompt(tmp_path / "run", record.lm_fingerprint)
    for rank in range(2):
        with np.load(tmp_path / f"process{rank}.npz") as ended:
            assert set(ended) == set(kept)
            assert all((ended[name] == value.numpy()).all() for name, value in kept.items())


if __name__ == "__main__":
    train_on_this_process(Path(sys.argv[1]), Path(sys.argv[2]))
