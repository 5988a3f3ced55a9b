from __future__ import annotations

import numpy as np
import pytest
import torch

from speechprompt.lm.gslm import GSLM
from speechprompt.verbalizer import LearnableVerbalizer, RandomVerbalizer, TokenVerbalizer, make_verbalizer
from units.errors import InputError

HIDDEN_BD = torch.randn(3, 32, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("seed", range(5))
def test_random_tokens_are_different_units_and_follow_the_seed(seed: int, lm: GSLM) -> None:
    verbalizer, again = (RandomVerbalizer(20, lm.vocab, seed=seed) for _ in range(2))
    assert sorted(verbalizer.ids.tolist()) == lm.vocab.unit_ids.tolist()
    assert torch.equal(verbalizer.ids, again.ids)
    assert not torch.equal(verbalizer.ids, RandomVerbalizer(20, lm.vocab, seed=seed + 1).ids)


def test_frequent_units_come_first_and_ties_go_to_the_lower_unit(lm: GSLM) -> None:
    counts = np.zeros(20, dtype=np.int64)
    counts[[7, 3, 12]] = [50, 90, 50]
    verbalizer = make_verbalizer("frequency", 4, lm, unit_counts=counts)
    assert isinstance(verbalizer, TokenVerbalizer)
    assert lm.vocab.decode(verbalizer.ids.numpy()).tolist() == [3, 7, 12, 0]


@pytest.mark.parametrize("kind", ["random", "frequency"])
def test_a_label_s_score_is_its_token_s_logit(kind: str, lm: GSLM) -> None:
    verbalizer = make_verbalizer(kind, 6, lm, unit_counts=np.arange(20))
    assert isinstance(verbalizer, TokenVerbalizer)
    torch.testing.assert_close(verbalizer(HIDDEN_BD, lm), lm.logits(HIDDEN_BD)[:, verbalizer.ids])
    assert verbalizer.n_labels == 6
    assert not list(verbalizer.parameters())


@pytest.mark.parametrize(("read", "n_inputs"), [("logits", 24), ("hidden", 32)])
def test_a_learnable_verbalizer_is_linear_without_bias(read: str, n_inputs: int, lm: GSLM) -> None:
    verbalizer = make_verbalizer("learnable", 50, lm, read=read).eval()
    assert isinstance(verbalizer, LearnableVerbalizer)
    assert verbalizer.weight.shape == (50, n_inputs)
    source = lm.logits(HIDDEN_BD) if read == "logits" else HIDDEN_BD
    torch.testing.assert_close(verbalizer(HIDDEN_BD, lm), source @ verbalizer.weight.T)
    assert not verbalizer(torch.zeros(1, 32), lm).any()


def test_its_dropout_acts_in_training_only(lm: GSLM) -> None:
    torch.manual_seed(0)
    verbalizer = make_verbalizer("learnable", 4, lm, dropout=0.5)
    assert not torch.equal(verbalizer(HIDDEN_BD, lm), verbalizer(HIDDEN_BD, lm))
    verbalizer.eval()
    assert torch.equal(verbalizer(HIDDEN_BD, lm), verbalizer(HIDDEN_BD, lm))


@pytest.mark.parametrize(
    ("kind", "n_labels", "options"),
    [
        ("oracle", 3, {}),
        ("learnable", 0, {}),
        ("learnable", 3, {"read": "tea leaves"}),
        ("random", 21, {}),
        ("frequency", 21, {"unit_counts": np.ones(20)}),
        ("frequency", 3, {}),
    ],
)
def test_what_cannot_be_verbalized_is_refused(
    kind: str, n_labels: int, options: dict[str, object], lm: GSLM
) -> None:
    with pytest.raises(InputError):
        make_verbalizer(kind, n_labels, lm, **options)


def test_labels_never_share_a_token() -> None:
    with pytest.raises(InputError, match="shared"):
        TokenVerbalizer(np.array([4, 5, 4]))
