"""What the benchmarks compare does the same work: equal losses, gradients, labels and units on equal weights."""

from __future__ import annotations

import json
import platform
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from subprocess import CalledProcessError
from types import SimpleNamespace
from urllib.error import URLError

import numpy as np
import pytest
import torch

from scripts.bench import __main__ as bench
from scripts.bench import alternating, machine, memory, page_start
from scripts.bench.audio_units import noise_waves, pair
from scripts.bench.machine import uses_bf16
from scripts.bench.matrix_rate import operations
from scripts.bench.opt_peer import PeftPrompts, as_opt, opt_generate
from scripts.bench.plain_prompts import PlainPrompts
from scripts.bench.prompt_work import N_LABELS, batch_of, prompted_pair
from scripts.bench.vocoding import vocoding
from speechprompt.decode import SamplingConfig, generate
from speechprompt.lm.gslm import GSLM
from speechprompt.stack_folder import load_stack
from speechprompt.vocab import UnitVocab
from units.rounded_linear import RoundedLinear

BF16 = 2.0**-6  # of the largest score: some roundings to eight bits, one after the other
measured = pytest.mark.skipif(not memory.reset_peak(), reason="the kernel does not tell peaks of memory")
on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


@pytest.fixture
def lm() -> GSLM:
    """Two layers; no bias is 0."""
    lm = GSLM(bench.DIMS["tiny"].lm, UnitVocab.from_n_units(100)).initialise(seed=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in lm.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
        lm.embed_tokens.weight[lm.vocab.pad] = 0
    return lm.freeze()


def test_the_released_semantics_have_our_loss_and_gradients(lm: GSLM) -> None:
    ours, _ = prompted_pair(lm)
    plain, batch = PlainPrompts(ours), batch_of(lm, 6)
    losses = [model.loss(batch) for model in (ours.train(), plain)]
    torch.testing.assert_close(*losses)
    for loss in losses:
        loss.backward()
    for name in ("key", "value"):
        torch.testing.assert_close(
            getattr(ours.prompt, name).grad, getattr(plain, name).grad, rtol=1e-3, atol=1e-6
        )
    torch.testing.assert_close(ours.separator.grad, plain.separator.grad, rtol=1e-3, atol=1e-6)
    assert plain.input.grad is not None and not plain.input.grad.any()  # its rows reach no label


def test_peft_has_our_labels_scores(lm: GSLM) -> None:
    _, ours = prompted_pair(lm)
    batch = batch_of(lm, 6)
    with torch.no_grad():
        torch.testing.assert_close(
            PeftPrompts(ours).label_logits(batch), ours.eval().label_logits(batch), rtol=1e-4, atol=1e-4
        )


def test_row_by_row_the_release_finds_the_labels_of_a_batch(lm: GSLM) -> None:
    ours, _ = prompted_pair(lm)
    batch, plain = batch_of(lm, N_LABELS), PlainPrompts(ours)
    with torch.no_grad():
        plain.weight = torch.nn.Parameter(torch.eye(len(lm.vocab)))
        logits_BV = plain.label_logits(batch)
        # A label for each row: how it departs from the others.
        ours.verbalizer.weight[:] = logits_BV - logits_BV.mean(0)
        expected_B = ours.eval().label_logits(batch).argmax(1)
        found_B = PlainPrompts(ours).labels_row_by_row(batch)
    assert found_B.tolist() == expected_B.tolist() and len(set(found_B.tolist())) > 1


def test_bfloat16_keeps_the_scores_within_its_rounding(lm: GSLM) -> None:
    ours, _ = prompted_pair(lm)
    plain, batch = PlainPrompts(ours), batch_of(lm, 6)
    with torch.no_grad():
        expected = plain.label_logits(batch)
        with torch.autocast("cpu", torch.bfloat16):
            scores = ours.eval().label_logits(batch)
    assert (scores - expected).abs().max() <= BF16 * expected.abs().max()


def test_transformers_generates_our_units(lm: GSLM) -> None:
    seeds = [np.random.default_rng(row).integers(100, size=10) for row in range(3)]
    ours = generate(lm, seeds, SamplingConfig(max_units=12, greedy=True, allow_end=False))
    np.testing.assert_array_equal(np.stack(ours), opt_generate(as_opt(lm), lm, seeds, 12).numpy())


@pytest.mark.parametrize("stable", [False, True])
def test_file_by_file_hears_our_units(tmp_path: Path, stable: bool) -> None:
    dims = bench.DIMS["tiny"]
    hubert = dims.hubert | {"do_stable_layer_norm": stable}
    ours, plain = pair(tmp_path, hubert, dims.layer, n_units=20)
    waves = noise_waves(4, 1.0)
    for one, other in zip(ours(waves), plain(waves), strict=True):
        assert len(one.units) == len(other)
        assert (one.units == other).mean() > 0.97  # a frame between two centres may fall to either


@pytest.mark.parametrize("voices", [1, 3])
def test_the_plain_vocoder_speaks_our_wave(voices: int) -> None:
    config = replace(bench.DIMS["tiny"].vocoder, multispkr=voices > 1, num_speakers=voices, model_in_dim=0)
    wave, plain = (np.asarray(way()) for way in vocoding(config, 20).values())
    np.testing.assert_allclose(wave, plain, atol=(2**-5 if uses_bf16() else 1e-4) * np.abs(plain).max())


def test_ways_take_turns_and_the_first_round_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    clock: Iterator[float] = iter([0, 0, 0, 1, 0, 4, 0, 2, 0, 4, 0, 3, 0, 6])
    monkeypatch.setattr(alternating, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    called: list[str] = []
    result = alternating.alternate({n: lambda n=n: called.append(n) for n in ("ours", "peer")}, 3)  # type: ignore[misc]
    assert called == ["ours", "peer"] * 4
    assert result.seconds == {"ours": 2, "peer": 4} and result.ratios == {"peer": 2}


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=on_gpu)])
def test_every_comparison_runs(
    device: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    told = {"ours": 1.25, "transformers": None}
    monkeypatch.setattr(bench, "growth_in_child", lambda dims, work, way, threads, device: told.get(way, 2.0))
    bench.main(tmp_path / "bench.json", dims="tiny", rounds=1, threads=1, device=device)
    content = json.loads((tmp_path / "bench.json").read_text(encoding="utf-8"))
    assert content["processor"] == machine.processor_model() and content["threads"] == 1
    assert content["bf16"] is uses_bf16(torch.device(device))
    assert ("device" in content) is (device == "cuda") and content["matrix_rate"] > 1e9
    assert len(content["results"]) == 6
    for result in content["results"].values():
        assert 0 < result["share_of_rate"] < 1
        assert result["operations"] == pytest.approx(
            result["share_of_rate"] * content["matrix_rate"] * result["seconds"]["ours"]
        )
        assert len(result["rounds"]["ours"]) == 1
        assert all(ratio > 0 for ratio in result["ratios"].values())
        assert result["mib"] == {way: told.get(way, 2.0) for way in result["seconds"]}
    printed = capsys.readouterr().out
    assert "times as fast as transformers and peft" in printed
    assert "memory: ours 1.2 MiB, theirs 2.0 MiB" in printed
    assert "memory: ours 1.2 MiB, theirs not measured" in printed


def test_the_shipped_dims_are_the_shipped_parts_dims() -> None:
    stack = load_stack("mini")
    dims = bench.DIMS["mini"]
    assert isinstance(stack.lm, GSLM) and dims.lm == stack.lm.config
    assert dims.vocoder == stack.vocoder.generator.config
    assert dims.layer == stack.spec.layer
    assert dims.hubert["hidden_size"] == stack.quantizer.centroids.shape[1]


@pytest.mark.parametrize("kind", [torch.nn.Linear, lambda *sizes: RoundedLinear([torch.nn.Linear(*sizes)])])
def test_products_are_counted_there_and_back(kind: Callable[[int, int], torch.nn.Module]) -> None:
    linear, x = kind(8, 24).requires_grad_(False), torch.randn(5, 8, requires_grad=True)
    assert operations(lambda: linear(x)) == 2 * 5 * 8 * 24
    assert operations(lambda: linear(x).sum().backward()) == 2 * 2 * 5 * 8 * 24


def test_the_operations_of_a_step_are_those_that_are_predicted(lm: GSLM) -> None:
    ours, _ = prompted_pair(lm)
    batch = batch_of(lm, 6, lengths=(30, 31))
    n_layers, d_model, d_ffn = lm.config.n_layers, lm.config.d_model, lm.config.d_ffn
    in_layers = (n_layers - 1) * (
        4 * d_model**2 + 2 * d_model * d_ffn
    ) + 2 * d_model**2  # docs/performance.md
    counted = operations(lambda: ours.train().loss(batch).backward())
    assert (
        1 < counted / (4 * in_layers * batch.ids_BT.numel()) < 1.5
    )  # attention and the prompt's own come to it


@measured
def test_the_peak_is_found_however_short_and_freed_memory_hides_none() -> None:
    def work() -> None:
        np.ones((64, 1024, 128))  # 64 MiB, given back at once

    work()
    assert 63 <= (memory.growth_mib(work) or 0) <= 72
    assert (memory.growth_mib(lambda: None) or 0) < 1


@measured
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=on_gpu)])
def test_a_way_is_measured_in_a_process_of_its_own(device: str) -> None:
    mib = memory.growth_in_child("tiny", "labelling", "released semantics", threads=1, device=device)
    assert mib is not None and 0 < mib < 100


def test_without_the_kernels_help_nothing_is_claimed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(memory, "_CLEAR_REFS", tmp_path / "none" / "clear_refs")
    assert memory.growth_mib(lambda: None) is None
    assert memory.as_text(None) == "not measured"


def test_the_processor_is_named_by_the_kernel_or_else_by_python(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "cpuinfo"
    monkeypatch.setattr(machine, "_CPUINFO", file)
    assert machine.processor_model()
    file.write_text("processor\t: 0\nmodel name\t: Fast CPU @ 3 GHz\n", encoding="utf-8")
    assert machine.processor_model() == "Fast CPU @ 3 GHz"
    file.write_text("processor\t: 0\nBogoMIPS\t: 50\n", encoding="utf-8")  # as on Arm
    assert machine.processor_model() == (platform.processor() or platform.machine())


def test_a_page_answers_before_its_start_is_told(tmp_path: Path) -> None:
    pytest.importorskip("gradio", reason="the extra demo is not installed")
    assert page_start.start_s("mini") > 0
    with pytest.raises(CalledProcessError):
        page_start.start_s(str(tmp_path))  # no stack


def test_a_page_that_does_not_answer_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told, python = tmp_path / "told", tmp_path / "python"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/"  # nobody listens there when it is asked for
    python.write_text(
        f"#!/bin/sh\ntrap 'touch {told}; exit' TERM\necho '{{\"url\": \"{url}\"}}'\nsleep 5 >/dev/null & wait\n",
        encoding="utf-8",
    )
    python.chmod(0o755)
    monkeypatch.setattr(page_start.sys, "executable", str(python))
    with pytest.raises(URLError):
        page_start.start_s("mini")
    assert told.exists()
