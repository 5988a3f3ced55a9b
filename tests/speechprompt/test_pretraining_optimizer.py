"""Muon turns the layers' matrices, AdamW everything else, and both are continued together."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from speechprompt.lm.gslm import GSLM
from speechprompt.lm.mbart_config import MBartConfig
from speechprompt.lm.transformer import TransformerConfig
from speechprompt.lm.unit_mbart import UnitMBart
from speechprompt.pretrain import PretrainConfig, pretrain_lm
from speechprompt.pretraining.optimizer import MUON_RATE, LMOptimizer, layer_matrices
from speechprompt.pretraining.run import PretrainRun
from speechprompt.vocab import MBartVocab, UnitVocab
from units.errors import InputError

CONFIG = PretrainConfig(
    steps=4, batch_tokens=200, lr=1e-2, warmup_steps=1, check_every=2, weight_decay=0.0, optimizer="muon"
)
SMALL = TransformerConfig(2, d_model=32, n_heads=4, d_ffn=64, max_positions=32)
LEARNED = replace(SMALL, positions="learned")
VOCAB = UnitVocab.from_n_units(10)
ROWS = [np.arange(8) % 10, np.arange(3, 12) % 10]


def gslm() -> GSLM:
    return GSLM(replace(SMALL, tied=False), VOCAB).initialise(0)


def unit_mbart() -> UnitMBart:
    return UnitMBart(MBartConfig(LEARNED, LEARNED), MBartVocab([str(unit) for unit in range(10)], ["und"]))


@pytest.mark.parametrize(("make", "n_matrices"), [(gslm, 2 * 6), (unit_mbart, 2 * 6 + 2 * 10)])
def test_every_weight_is_trained_by_one_of_the_two(make: object, n_matrices: int) -> None:
    model = make()  # type: ignore[operator]
    optimizer = LMOptimizer(model, CONFIG)
    assert optimizer.muon is not None
    by_muon = [p for group in optimizer.muon.param_groups for p in group["params"]]
    by_adamw = [p for group in optimizer.adamw.param_groups for p in group["params"]]
    assert sorted(map(id, by_muon + by_adamw)) == sorted(map(id, model.parameters()))
    assert len(by_muon) == n_matrices
    names = {id(p): name for name, p in model.named_parameters()}
    assert all(".layers." in f".{names[id(p)]}" for p in by_muon)
    assert {"embed_tokens.weight"} <= {names[id(p)].split(".", 1)[-1] for p in by_adamw} | {
        names[id(p)] for p in by_adamw
    }


def test_muons_step_turns_all_directions_by_the_same() -> None:
    model = gslm()
    optimizer = LMOptimizer(model, CONFIG)
    before = [p.detach().clone() for p in layer_matrices(model)]
    generator = torch.Generator().manual_seed(0)
    for p in model.parameters():
        p.grad = torch.randn(p.shape, generator=generator)
    optimizer.step(1e-3)
    for old, new in zip(before, layer_matrices(model), strict=True):
        step = torch.linalg.svdvals(new.detach() - old) / (MUON_RATE * 1e-3 * 0.2 * max(old.shape) ** 0.5)
        assert step.min() > 0.6 and step.max() < 1.3  # Newton and Schulz' five steps stop near 1


def test_adamw_alone_trains_everything() -> None:
    optimizer = LMOptimizer(gslm(), replace(CONFIG, optimizer="adamw"))
    assert optimizer.muon is None
    assert sum(len(group["params"]) for group in optimizer.adamw.param_groups) == len(
        list(gslm().parameters())
    )
    with pytest.raises(InputError, match="optimizer: expected adamw or muon, got 'sgd'"):
        LMOptimizer(gslm(), replace(CONFIG, optimizer="sgd"))  # type: ignore[arg-type]


def test_a_training_by_another_optimizer_is_not_continued(tmp_path: Path) -> None:
    pretrain_lm(SMALL, VOCAB, ROWS, tmp_path, CONFIG)
    with pytest.raises(InputError, match="expected the settings and rows it was written with"):
        pretrain_lm(SMALL, VOCAB, ROWS, tmp_path, replace(CONFIG, optimizer="adamw"))
    state = torch.load(tmp_path / "resume.pt", weights_only=True)
    del state["config"]["optimizer"]  # as written before there was a choice
    torch.save(state, tmp_path / "resume.pt")
    with pytest.raises(InputError, match="expected the settings and rows it was written with"):
        pretrain_lm(SMALL, VOCAB, ROWS, tmp_path, CONFIG)


def test_a_training_by_muon_ends_in_the_same_bits_after_a_kill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretrain_lm(SMALL, VOCAB, ROWS, tmp_path / "whole", CONFIG)
    update = PretrainRun.update

    def dying_update(run: PretrainRun, batch: object) -> float:
        if run.step == 3:
            raise KeyboardInterrupt
        return update(run, batch)

    with monkeypatch.context() as patch:
        patch.setattr(PretrainRun, "update", dying_update)
        with pytest.raises(KeyboardInterrupt):
            pretrain_lm(SMALL, VOCAB, ROWS, tmp_path / "broken", CONFIG)
    torn = tmp_path / "broken" / ".tmp-18cu4b62-resume.pt"
    torn.touch()
    pretrain_lm(SMALL, VOCAB, ROWS, tmp_path / "broken", CONFIG)
    assert not torn.exists()
    whole, broken = (GSLM.load(tmp_path / name).fingerprint() for name in ("whole", "broken"))
    assert whole == broken
