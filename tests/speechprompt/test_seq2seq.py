"""Prompts of an encoder-decoder: the paper's size, no dead weight, a frozen model, writing that equals reading."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from speechprompt.checkpoint import begin_run
from speechprompt.decode import SamplingConfig
from speechprompt.lm.mbart_config import MBartConfig
from speechprompt.lm.transformer import TransformerConfig
from speechprompt.lm.unit_mbart import UnitMBart
from speechprompt.run_record import RunRecord
from speechprompt.seq2seq.batch import IGNORED, Pair, PairBatches, collate_pairs
from speechprompt.seq2seq.config import Seq2SeqPromptConfig, published_parameter_count
from speechprompt.seq2seq.decoding import WritingConfig, write_units
from speechprompt.seq2seq.objective import PairObjective
from speechprompt.seq2seq.prompt import SidePrompt, make_prompt
from speechprompt.seq2seq.prompted import PromptedMBart, build_prompted, restore_prompted
from speechprompt.seq2seq.rows import source_row
from speechprompt.train_config import TrainConfig
from speechprompt.trainer import train_module
from speechprompt.vocab import MBartVocab
from units.errors import InputError
from units.types import UnitSpec

VOCAB = MBartVocab([str(unit) for unit in range(12)], ["en_XX", "es_XX"])
SPEC = UnitSpec("planted", 0, 12, 50.0, "0" * 12)
DEEP = Seq2SeqPromptConfig(length=3, cross_attention=True)


def random_mbart(languages: tuple[str, ...] = VOCAB.languages) -> UnitMBart:
    sides = [
        TransformerConfig(n, 16, 2, 24, max_positions=48, activation="gelu", positions="learned")
        for n in (2, 3)
    ]
    lm = UnitMBart(MBartConfig(*sides), MBartVocab(VOCAB.unit_symbols, languages)).initialise(0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in lm.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return lm.freeze()


def pair(n: int, *, mask: bool = False) -> Pair:
    units = np.arange(n) % SPEC.n_units
    ids = VOCAB.encode(units)
    if mask:
        ids[2] = VOCAB.mask
    return Pair(source_row(ids, VOCAB), units[::-1].copy(), units > 3)


PAIRS = [pair(n, mask=n % 2 == 0) for n in (5, 9, 7, 6)]


def pair_objective(prompted: PromptedMBart, config: TrainConfig) -> PairObjective:
    return PairObjective(prompted, [PAIRS, PAIRS[::-1]], PAIRS[:2], config, marked_weight=2.0)


def test_two_hundred_positions_are_the_papers_ten_million_weights() -> None:
    side = TransformerConfig(12, 1024, 16, 4096, max_positions=1024, activation="gelu", positions="learned")
    with torch.device("meta"):
        lm = UnitMBart(MBartConfig(side, side), MBartVocab([str(u) for u in range(1000)], ["en_XX", "es_XX"]))
        prompt = make_prompt(lm.freeze(), Seq2SeqPromptConfig(length=200))
    assert sum(parameter.numel() for parameter in prompt.parameters()) == 10_240_000
    assert published_parameter_count(200, 12, 12, 1024) == 10_240_000


@pytest.mark.parametrize("name", ["encoder", "decoder"])
def test_a_prompt_begins_as_masks_or_as_units_of_its_seed(name: str) -> None:
    lm = random_mbart()

    def begun(init: str, seed: int) -> torch.Tensor:
        part = make_prompt(lm, Seq2SeqPromptConfig("input", 4, init=init, seed=seed))[name]
        assert isinstance(part, SidePrompt)
        return part.input.detach()

    assert torch.equal(begun("masks", 0), begun("masks", 1))
    assert not torch.equal(begun("units", 0), begun("units", 1))
    side = lm.encoder if name == "encoder" else lm.decoder
    first = 1 if name == "encoder" else 2
    read = torch.full((1, first + 4), VOCAB.mask)
    torch.testing.assert_close(begun("masks", 0), side.embed(read)[0, first:])


def test_every_weight_of_a_prompt_moves_and_none_of_the_model() -> None:
    lm = random_mbart()
    before = lm.fingerprint()
    prompted = build_prompted(lm, DEEP)
    # Two vectors per self-attention (2 + 3 layers) and cross-attention (3), and two rows.
    assert prompted.n_trainable == 3 * 16 * (2 * 5 + 2 * 3 + 2)
    assert prompted.n_frozen == lm.n_parameters()
    batch = collate_pairs(PAIRS, VOCAB)
    with torch.no_grad():
        prompted(batch)  # a prompt that was cached here would not train below
    prompted.train()
    loss = pair_objective(prompted, TrainConfig()).loss(prompted(batch), batch)
    loss.backward()
    for name, parameter in prompted.prompt.named_parameters():
        assert parameter.grad is not None, name
        assert (parameter.grad.abs().sum(-1) > 0).all(), name
    assert lm.fingerprint() == before and not lm.training
    assert all(parameter.grad is None for parameter in lm.parameters())


@pytest.mark.parametrize("languages", [("en_XX", "es_XX"), ()])
@pytest.mark.parametrize("config", [DEEP, replace(DEEP, kind="input", cross_attention=False)])
def test_padding_changes_nothing_and_writing_says_what_reading_at_once_says(
    config: Seq2SeqPromptConfig, languages: tuple[str, ...]
) -> None:
    lm = random_mbart(languages)
    prompted = build_prompted(lm, config).eval()
    pairs = [Pair(source_row(VOCAB.encode(p.target), lm.vocab), p.target) for p in PAIRS]
    together = prompted(collate_pairs(pairs, lm.vocab))
    for row, alone in zip(together, pairs, strict=True):
        logits_TV = prompted(collate_pairs([alone], lm.vocab))[0]
        torch.testing.assert_close(row[: len(logits_TV)], logits_TV, atol=1e-5, rtol=1e-5)
    sources = [p.source for p in pairs]
    written = write_units(prompted, sources, WritingConfig())
    choices = torch.tensor([*lm.vocab.unit_ids.tolist(), lm.vocab.eos])
    for source, units in zip(sources, written, strict=True):
        # At each place the most probable of the units and the end, given what was written before.
        batch = collate_pairs([Pair(source, units)], lm.vocab)
        best = choices[prompted(batch)[0, 1:, choices].argmax(-1)]
        expected = [*lm.vocab.encode(units).tolist(), lm.vocab.eos]
        n_sure = len(units) + (len(units) < 1.2 * len(source))  # the end too, unless the limit made it
        assert best[:n_sure].tolist() == expected[:n_sure]
    assert [row.tolist() for row in written] == [
        write_units(prompted, [source], WritingConfig())[0].tolist() for source in sources
    ]


def test_beam_and_sampling_keep_to_units_limits_and_beginnings() -> None:
    prompted = build_prompted(random_mbart(), DEEP)
    prompted.train()
    sources = [p.source for p in PAIRS]
    begun = [np.array([1, 2, 3][:n]) for n in (0, 3, 1, 2)]
    sampled = SamplingConfig(temperature=2.0, seed=3)
    for config in (WritingConfig(beam=3), WritingConfig(sampling=sampled), WritingConfig(beam=1)):
        config = replace(config, length_factor=1.0, length_extra=2)
        written = write_units(prompted, sources, config, begun=begun)
        for units, source, first in zip(written, sources, begun, strict=True):
            assert units[: len(first)].tolist() == first.tolist()
            assert len(units) <= len(source) + 2 and (units < SPEC.n_units).all()
    again = write_units(prompted, sources, WritingConfig(sampling=sampled), begun=begun)
    alone = write_units(prompted, sources[:1], WritingConfig(sampling=sampled), begun=begun[:1])
    assert alone[0].tolist() == again[0].tolist()
    assert prompted.training
    with pytest.raises(InputError, match="begin with at most"):
        write_units(prompted, sources[:1], WritingConfig(), begun=[np.zeros(60, dtype=np.int64)])
    with pytest.raises(InputError, match="got both"):
        WritingConfig(beam=2, sampling=sampled)


def test_a_batch_trains_on_units_and_the_end_and_marks_the_gap() -> None:
    batch = collate_pairs([pair(5), pair(2)], VOCAB, "es_XX")
    tag, units = VOCAB.language_id("es_XX"), VOCAB.encode(np.arange(5)[::-1])
    assert batch.previous_BT[0].tolist() == [tag, 0, *units]
    assert batch.target_BT.tolist()[0] == [IGNORED, *units, VOCAB.eos]
    assert batch.target_BT.tolist()[1] == [IGNORED, 5, 4, VOCAB.eos, IGNORED, IGNORED, IGNORED]
    assert batch.marked_BT.sum(1).tolist() == [1, 0]
    assert batch.source_BS[1].tolist() == [0, 4, 5, 2, VOCAB.language_id("en_XX"), 1, 1, 1]


def test_batches_repeat_by_epoch_and_leave_long_rows_out() -> None:
    limits = {"batch_tokens": 30, "max_source": 10, "max_target": 48}
    with pytest.warns(UserWarning, match="2 of 8"):
        batches = PairBatches([PAIRS, PAIRS[::-1]], VOCAB, **limits)
    for epoch in range(3):
        read = [batch.source_BS.tolist() for batch in batches.epoch(epoch)]
        assert len(read) == batches.n_batches(epoch) and sum(map(len, read)) == 3
        assert [batch.source_BS.tolist() for batch in batches.epoch(epoch, 1)] == read[1:]
    with pytest.raises(InputError, match="none fits"):
        PairBatches([PAIRS], VOCAB, batch_tokens=30, max_source=3, max_target=48)


def record_of(prompted: PromptedMBart, config: Seq2SeqPromptConfig, training: TrainConfig) -> RunRecord:
    return RunRecord(
        task="planted",
        data=None,
        labels=(),
        stack="none",
        spec=SPEC,
        lm_fingerprint=prompted.lm.fingerprint(),
        prompt=config.to_dict(),
        training=training.to_dict(),
        trainable_parameters=prompted.n_trainable,
        frozen_parameters=prompted.n_frozen,
    )


@pytest.mark.parametrize("config", [DEEP, Seq2SeqPromptConfig("none", 0, finetune=True)])
def test_training_learns_and_is_read_back_equal(config: Seq2SeqPromptConfig, tmp_path: Path) -> None:
    lm = random_mbart()
    before = lm.fingerprint()
    prompted = build_prompted(lm, config)
    training = TrainConfig(lr=2e-2, max_epochs=6, batch_tokens=80, label_smoothing=0.0, average_epochs=1)
    begin_run(tmp_path / "run", record_of(prompted, config, training))
    history = train_module(pair_objective(prompted, training), training, tmp_path / "run")
    assert history[-1]["valid_gap_loss"] < history[0]["valid_gap_loss"]
    again = restore_prompted(lm, config, prompted.trainable_state())
    batch = collate_pairs(PAIRS, VOCAB)
    torch.testing.assert_close(again(batch), prompted(batch), rtol=0, atol=0)
    assert lm.fingerprint() == before
    with pytest.raises(InputError, match="expected tensors that fit"):
        restore_prompted(lm, Seq2SeqPromptConfig(length=4), prompted.trainable_state())


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"kind": "infix"}, "deep or input or none"),
        ({"length": 0}, "at least 1"),
        ({"kind": "none", "length": 2}, "0 of kind none"),
        ({"kind": "input", "cross_attention": True}, "kind deep"),
        ({"init": "zeros"}, "masks or units"),
    ],
)
def test_prompts_that_cannot_be_are_refused(wrong: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        Seq2SeqPromptConfig(**wrong)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="1 to 45"):
        build_prompted(random_mbart(), Seq2SeqPromptConfig(length=46))
