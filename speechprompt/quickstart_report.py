"""The quickstart's results put into words and figures."""

from __future__ import annotations

import platform
import shlex

import numpy as np
import torch

from speechprompt import __version__
from speechprompt.quickstart_result import QuickstartResult
from speechprompt.report import Clip, ClipSection, Curve, Report, Score, unit_colours
from tasks.metrics import ClassificationReport


def build_report(result: QuickstartResult, out: str) -> Report:
    """Say what was found. `out`: the folder as the user named it, for the commands."""
    run, test, record = result.run, result.test, result.run.record
    share = record.trainable_parameters / (record.trainable_parameters + record.frozen_parameters)
    accuracy = f"{100 * test['accuracy']:.1f}%"
    return Report(
        title="Ten spoken digits, one small prompt",
        summary=(
            f"A prompt of {record.prompt['length']} positions steers a unit language model that was trained on running "
            f"speech and stays frozen. With {record.trainable_parameters:,} trained parameters it names {accuracy} of "
            f"{test['n']} held-out digits; counting the same units and unit pairs gives "
            f"{100 * result.ngram['accuracy']:.1f}%."
        ),
        facts=[
            (accuracy, f"of {test['n']} held-out clips named correctly"),
            (f"{100 * result.ngram['accuracy']:.1f}%", "n-gram baseline on the same units"),
            (f"{100 * share:.2g}%", "of the parameters were trained"),
            (f"{100 * result.unit_error_rate:.0f}%", "unit error rate of the resynthesized sentence"),
            (f"{result.seconds:.0f} s", "from sound files to this page"),
        ],
        scores=_scores(result),
        labels=test["labels"],
        confusion=np.array(test["confusion"]),
        curves=_curves(result),
        trainable_parameters=record.trainable_parameters,
        frozen_parameters=record.frozen_parameters,
        sections=[_heard(result), _spoken(result), _continued(result)],
        steps=_steps(result),
        commands=_commands(result, out),
        details=_details(result),
        colours=unit_colours(run.stack.spec.n_units, run.stack.quantizer.centroids),
    )


def _scores(result: QuickstartResult) -> list[Score]:
    choice = result.ngram_choice
    return [
        _score(
            "Deep prompt",
            f"{result.run.record.prompt['length']} positions in every layer, learnable verbalizer",
            result.test,
            result.run.record.trainable_parameters,
            ours=True,
        ),
        _score(
            "Logistic regression",
            f"counts of units and unit pairs; {choice.scaling}, C = {choice.strength:g} by validation",
            result.ngram,
        ),
        _score("Majority class", "the most frequent digit of the training clips", result.majority),
    ]


def _score(
    name: str, note: str, report: ClassificationReport, trainable: int | None = None, *, ours: bool = False
) -> Score:
    low, high = report["interval_95"]
    return Score(name, note, report["accuracy"], (low, high), report["macro_f1"], trainable, ours)


def _curves(result: QuickstartResult) -> list[tuple[str, bool, list[Curve]]]:
    history = result.run.history
    epochs = [row["epoch"] for row in history]
    accuracies, losses = [row["valid_accuracy"] for row in history], [row["valid_loss"] for row in history]
    best = max(range(len(history)), key=lambda i: (accuracies[i], -losses[i]))
    return [
        (
            "Cross-entropy, nats per clip",
            False,
            [
                Curve("train", epochs, [row["train_loss"] for row in history]),
                Curve("validation", epochs, losses, best),
            ],
        ),
        (
            "Accuracy on validation; ringed: the epoch that was kept",
            True,
            [Curve("validation", epochs, accuracies, best)],
        ),
    ]


def _heard(result: QuickstartResult) -> ClipSection:
    clips = []
    for number, (clip, wave, units, prediction) in enumerate(
        zip(result.clips, result.clip_waves, result.clip_units, result.predictions, strict=True), 1
    ):
        clips.append(
            Clip(
                title=f"“{clip.target}”, said by {clip.speaker}",
                caption=f"clip_{number}.wav: {units.n_frames} frames, {len(units.deduplicate())} units. "
                "What the prompt makes of it.",
                wave=wave,
                sample_rate=result.run.stack.quantizer.sample_rate,
                units=units,
                guesses=prediction.top,
                right=prediction.label == clip.target,
            )
        )
    return ClipSection(
        "Clips it was not trained on",
        f"{len(result.clips)} test clips, drawn by the seed. Under each spectrogram the units that the model reads in "
        "its place, one colour per unit; neighbours in the codebook have neighbouring hues. "
        "Press play, or click into a picture.",
        clips,
        narrow=True,
    )


def _spoken(result: QuickstartResult) -> ClipSection:
    n_meant = len(result.sentence_units.deduplicate())
    return ClipSection(
        "A sentence, spoken again from its units",
        f"The vocoder hears nothing but the {n_meant} units and how long each lasts. Quantizing its speech again gives "
        f"the original's units with a unit error rate of {100 * result.unit_error_rate:.1f}%.",
        [
            Clip(
                "As it was read",
                "“The crowding was in consequence of the delay in removing transports.” "
                "One of the sentences that the bundled stack was not trained on.",
                result.sentence,
                result.run.stack.quantizer.sample_rate,
                result.sentence_units,
            ),
            Clip(
                "Resynthesized",
                "The units drawn here are those heard in the resynthesized speech, not those it was made from.",
                result.spoken,
                result.run.stack.vocoder.sample_rate,
                result.spoken_units,
            ),
        ],
    )


def _continued(result: QuickstartResult) -> ClipSection:
    lasting = "the vocoder decides" if result.run.stack.deduplicate else "it says itself"
    return ClipSection(
        "A sentence, continued twice",
        f"The language model hears the units of the first {result.seed_s:g} s and goes on by itself for "
        f"{result.length_s:g} s, at temperature {result.temperature:g}; {lasting} how long each unit lasts. "
        "A small model babbles: listen for rhythm and sounds of English, not for sense.",
        [
            Clip(
                f"Continuation {number}",
                f"continuation_{number}.wav, seed {result.seed + number - 1}: "
                f"{continuation.n_seed_units} units given, {len(continuation.units) - continuation.n_seed_units} new.",
                continuation.wave,
                continuation.sample_rate,
                continuation.units,
                boundary_s=continuation.boundary_s,
            )
            for number, continuation in enumerate(result.continuations, 1)
        ],
    )


def _steps(result: QuickstartResult) -> list[str]:
    spec, task, history = result.run.stack.spec, result.task, result.run.history
    n_train, n_valid, n_test = (len(task.utterances(split)) for split in ("train", "valid", "test"))
    best = max(history, key=lambda row: (row["valid_accuracy"], -row["valid_loss"]))
    return [
        f"{n_train} training, {n_valid} validation and {n_test} test clips of spoken digits became units: features of "
        f"layer {spec.layer} of the encoder, {spec.frame_rate:g} a second, each replaced by the nearest of "
        f"{spec.n_units} centroids, runs of one unit collapsed. The six speakers are the same in all three splits: "
        "these figures say nothing about new voices.",
        f"A deep prompt of {result.run.record.prompt['length']} positions, a separator and a learnable verbalizer were "
        f"trained for {len(history)} epochs; the best on validation, epoch {best['epoch']:.0f}, was kept.",
        f"It was measured once on the {n_test} test clips, beside two baselines on the same units.",
        f"One read sentence was spoken again from its units; its first {result.seed_s:g} s were continued twice.",
    ]


def _commands(result: QuickstartResult, out: str) -> list[str]:
    out, stack = shlex.quote(out), shlex.quote(result.run.stack.source)
    clips = " ".join(f"{out}/clip_{number}.wav" for number in range(1, len(result.clips) + 1))
    return [
        "# all of it",
        f"speechprompt quickstart --out {out} --stack {stack} --seed {result.seed}",
        "# its parts",
        f"speechprompt evaluate {out}/run --split test",
        f"speechprompt predict {out}/run {clips}",
        f"speechprompt resynthesize {out}/sentence.wav --stack {stack} --out again.wav",
        f"speechprompt continue {out}/sentence.wav --seed-s {result.seed_s:g} --length-s {result.length_s:g} "
        f"--temperature {result.temperature:g} --seed {result.seed} --stack {stack} --out more.wav",
    ]


def _details(result: QuickstartResult) -> dict[str, str]:
    record, spec = result.run.record, result.run.stack.spec
    training = record.training
    return {
        "Stack": f"{result.run.stack.name}, language model {record.lm_fingerprint[:12]}",
        "Units": f"{spec.encoder}, layer {spec.layer}, {spec.n_units} units, {spec.frame_rate:g} Hz, "
        f"codebook {spec.codebook}",
        "Training": f"Adam, learning rate {training['lr']:g}, {training['batch_rows']} rows a batch, patience "
        f"{training['patience']}, {len(result.run.history)} epochs",
        "Seed": str(result.seed),
        "Software": f"speechprompt {__version__}, torch {torch.__version__}, Python {platform.python_version()}",
        "Machine": f"{platform.system()} {platform.machine()}, {torch.get_num_threads()} threads",
        "Digits": "Free Spoken Digit Dataset (Zohar Jackson and contributors), CC BY-SA 4.0; the clips here are under "
        "the same licence",
        "Sentence": "from Philipp Matthes' recordings (github.com/PhilippMatthes/dc_tts), Apache-2.0",
    }
