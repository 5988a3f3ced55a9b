"""Imported SpeechPrompt prompts against logits, losses and gradients of the reference, and export to its format."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from speechprompt.convert.gslm import convert as convert_gslm
from speechprompt.convert.prompt_export import export_v2
from speechprompt.convert.prompts import (
    LINEAR,
    PREFIX,
    convert,
    read_prompt,
)
from speechprompt.fairseq import read_fairseq
from speechprompt.prompted import PromptConfig, build_prompted
from speechprompt.run import load_run
from speechprompt.stack_folder import load_stack
from tests.speechprompt.reference_prompts import VARIANTS, by_reference_name, language_model, reference_loss

LOGITS = {"atol": 1e-4, "rtol": 1e-4}
GRADIENTS = {"atol": 2e-4, "rtol": 1e-3}


@pytest.mark.parametrize("variant", VARIANTS)
def test_golden_logits_loss_and_gradients(variant: str, golden: Path) -> None:
    lm = language_model(golden, variant)
    data = np.load(golden / variant / "golden.npz")
    spec = json.loads((golden / variant / "spec.json").read_text(encoding="utf-8"))["config"]
    imported = read_prompt(read_fairseq(golden / variant / "checkpoint_best.pt"), lm)
    prompted = imported.prompted(lm)
    n_prefix, n_infix = (
        spec.get("prefix_prompt_length", spec.get("prompt_length")),
        spec.get("infix_prompt_length", 0),
    )
    assert (imported.config.length, imported.config.infix_length) == (n_prefix, n_infix)
    assert (imported.config.kind == "deep") == spec["deep_prompt"]

    ids_BT, target_BT = torch.from_numpy(data["src_tokens"]), torch.from_numpy(data["target"])
    hidden_BSD, column_BT = prompted.hidden(ids_BT)
    logits_BSC = lm.logits(hidden_BSD)
    linear = None
    if spec.get("linear_verbalizer"):
        assert imported.linear is not None
        linear = imported.linear.clone().requires_grad_()
        logits_BSC = F.linear(logits_BSC, linear)
        torch.testing.assert_close(prompted.verbalizer(hidden_BSD[:, 0], lm), logits_BSC[:, 0, 4:], **LOGITS)
    # Beside a deep prefix our rows hold no prompt positions, the reference's do.
    n_absent = n_prefix if imported.config.kind == "deep" else 0
    padding_BT = ids_BT.eq(lm.vocab.pad)
    is_padding_BS = torch.zeros(logits_BSC.shape[:2], dtype=torch.bool).scatter(1, column_BT, padding_BT)
    expected_BSC = torch.from_numpy(data["logits"])[:, n_absent:]
    torch.testing.assert_close(logits_BSC[~is_padding_BS], expected_BSC[~is_padding_BS], **LOGITS)

    loss = reference_loss(prompted, linear, data)
    torch.testing.assert_close(loss.detach(), torch.from_numpy(data["loss_sum"]), rtol=1e-5, atol=0)
    assert int(target_BT.ne(lm.vocab.pad).sum()) == int(data["sample_size"])

    loss.backward()
    expected = {n.removeprefix("grad/"): torch.from_numpy(data[n]) for n in data if n.startswith("grad/")}
    if imported.config.kind == "deep":
        # The reference's input rows are dead beside a deep prefix: no gradient, or one of zeros.
        assert PREFIX not in expected or not expected.pop(PREFIX).any()
    got = {name: gradient for name, (_, gradient) in by_reference_name(prompted, linear).items()}
    assert got.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(
            got[name], gradient, **GRADIENTS, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.fixture(scope="module")
def golden_stack(golden: Path, tiny_stack: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A stack whose language model is the golden one."""
    checkpoint = read_fairseq(golden / "ulm" / "cfg_dict.pt")
    folder = tmp_path_factory.mktemp("stacks") / "golden"
    shutil.copytree(tiny_stack, folder, ignore=shutil.ignore_patterns("lm"))
    converted = convert_gslm(checkpoint, folder / "lm")
    if converted.dictionary_size != 104:
        pytest.skip("the small stack of the tests has 100 units; this golden model has others")
    return load_stack(folder)


@pytest.mark.parametrize("variant", [name for name in VARIANTS if "_v2/" in name])
def test_golden_prompt_as_a_run_and_exported_again(
    variant: str, golden: Path, golden_stack: Any, tmp_path: Path
) -> None:
    checkpoint = read_fairseq(golden / variant / "checkpoint_best.pt")
    result = convert(checkpoint, tmp_path / "run", stack=golden_stack)
    run = load_run(tmp_path / "run")
    assert run.record.status == "finished" and result.n_parameters == run.prompted.n_trainable
    training, told = run.record.training, checkpoint.config
    flat = told["model"]
    assert [training["lr"]] == told.get("optimization", flat)["lr"]
    assert str(tuple(training["betas"])) == told.get("optimizer", flat)["adam_betas"]
    assert "unit_dropout" not in training  # a setting of ours alone, which nobody chose for this prompt
    table = golden / variant / "verbalizer.json"
    if table.is_file():
        assert set(run.record.labels) == set(json.loads(table.read_text(encoding="utf-8")))
    exported = read_fairseq(export_v2(run, tmp_path / "exported" / "checkpoint_best.pt"))
    for name, tensor in checkpoint.model.items():
        is_dead = name == PREFIX and run.record.prompt["kind"] == "deep"
        expected = torch.zeros_like(tensor) if is_dead else tensor.clone()
        if name == LINEAR:
            expected[:4] = expected[4:].mean(0)
        torch.testing.assert_close(exported.model[name], expected, rtol=0, atol=0)
    assert exported.model.keys() == checkpoint.model.keys()
    again = read_prompt(exported, run.stack.lm)
    assert again.labels == run.record.labels
    for name, tensor in run.prompted.trainable_state().items():
        assert torch.equal(again.state[name], tensor)


@pytest.mark.parametrize("read", ["hidden", "logits"])
@pytest.mark.parametrize("kind", ["deep", "input"])
def test_a_prompt_of_ours_is_exported_and_read_back_equal(
    read: str, kind: str, tiny_stack: Path, tmp_path: Path
) -> None:
    from speechprompt.checkpoint import begin_run, finish_run, save_prompt
    from speechprompt.run_record import RunRecord
    from speechprompt.train_config import TrainConfig

    stack = load_stack(tiny_stack)
    config = PromptConfig(kind=kind, length=4, read=read)
    prompted = build_prompted(stack.lm, 3, config)
    record = RunRecord(
        task="csv_classification",
        data=None,
        labels=("one", "zwei", "três"),
        stack=str(tiny_stack),
        spec=stack.spec,
        lm_fingerprint=stack.lm.fingerprint(),
        prompt=config.to_dict(),
        training=TrainConfig().to_dict(),
        trainable_parameters=prompted.n_trainable,
        frozen_parameters=prompted.n_frozen,
    )
    begin_run(tmp_path / "run", record)
    save_prompt(tmp_path / "run", prompted.trainable_state(), record)
    finish_run(tmp_path / "run", {})
    again = read_prompt(read_fairseq(export_v2(tmp_path / "run", tmp_path / "out" / "best.pt")), stack.lm)
    assert again.labels == record.labels and again.config.read == read and again.config.kind == kind
    assert again.state.keys() == prompted.trainable_state().keys()
    for name, tensor in prompted.trainable_state().items():
        assert torch.equal(again.state[name], tensor)
    torch.load(tmp_path / "out" / "best.pt", weights_only=True)  # plain containers and tensors only
