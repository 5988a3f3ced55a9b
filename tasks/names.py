"""The names of all tasks, importing nothing: a command's help can list them at no cost.

A task is a module of that name with `load(root)`; the second table has variants of a task, with what they pass to
it.
"""

from __future__ import annotations

from typing import Any

NAMES: tuple[str, ...] = (
    "accent_classification",
    "arabic_speech_commands",
    "arabic_speech_database",
    "audio_classification",
    "continuation",
    "csv_classification",
    "dysarthria_classification",
    "emotion_recognition",
    "fake_speech_detection",
    "gender_identification",
    "grabo",
    "inpainting",
    "intent_classification",
    "keyword_spotting",
    "keyword_spotting_v2",
    "language_identification",
    "lithuanian_speech_commands",
    "mandarin_dysarthric_commands",
    "phoneme_recognition",
    "sarcasm_detection",
    "sarcasm_detection_pp",
    "slot_filling",
    "speaker_identification",
    "speech_commands_v2",
    "speech_recognition",
    "spoken_digits",
    "translation",
    "voice_activity_detection",
)
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    **{
        f"{name}_fold{fold}": (name, {"fold": fold, "name": f"{name}_fold{fold}"})
        for name in ("audio_classification", "emotion_recognition")
        for fold in range(1, 6)
    },
    "sarcasm_detection_new_speakers": ("sarcasm_detection", {"new_speakers": True}),
}


def listed() -> str:
    """All names for a help text, the folds of a task shortened."""
    variants = [name for name in VARIANTS if not name[-1].isdigit()]
    folds = sorted({home for name, (home, _) in VARIANTS.items() if name[-1].isdigit()})
    return f"{', '.join(sorted([*NAMES, *variants]))}; {' and '.join(folds)} also with _fold1 to _fold5."
