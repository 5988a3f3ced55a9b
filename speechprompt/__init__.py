"""Prompt-tune one frozen unit language model for speech tasks.

    import speechprompt as sp

    stack = sp.load_stack("mini")
    run = sp.train("spoken_digits", stack, "runs/digits")
    print(sp.evaluate(run, "test")["accuracy"], sp.predict(run, "clip.wav"))
    more = sp.continue_speech(stack, "sentence.wav", seed_s=2.0, length_s=4.0)
    sp.write_audio("continued.wav", more.wave, more.sample_rate)

Names are imported when first used: `import speechprompt` alone costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOME = {
    "InputError": "units.errors",
    "UnitSequence": "units.types",
    "UnitSpec": "units.types",
    "read_audio": "units.audio",
    "write_audio": "units.audio",
    "Task": "tasks.base",
    "Utterance": "tasks.base",
    "get_task": "tasks.registry",
    "Stack": "speechprompt.stack",
    "load_stack": "speechprompt.stack_folder",
    "stack_names": "speechprompt.stack_folder",
    "fetch": "speechprompt.hub",
    "PromptConfig": "speechprompt.prompted",
    "TrainConfig": "speechprompt.train_config",
    "Run": "speechprompt.run",
    "load_run": "speechprompt.run",
    "train": "speechprompt.training",
    "Prediction": "speechprompt.evaluation",
    "evaluate": "speechprompt.evaluation",
    "predict": "speechprompt.evaluation",
    "SamplingConfig": "speechprompt.decode",
    "Continuation": "speechprompt.generate.continuation",
    "continue_speech": "speechprompt.generate.continuation",
    "stream_continuation": "speechprompt.generate.continuation_stream",
    "train_continuation": "speechprompt.generate.continuation_run",
    "load_continuation_run": "speechprompt.generate.continuation_run",
    "evaluate_continuation": "speechprompt.generate.continuation_run",
    "inpaint_speech": "speechprompt.generate.inpainting",
    "train_inpainting": "speechprompt.generate.inpainting_training",
    "load_inpainting_run": "speechprompt.generate.inpainting_run",
    "train_translation": "speechprompt.generate.translation",
    "load_translation_run": "speechprompt.generate.translation",
    "translate_speech": "speechprompt.generate.translation",
    "evaluate_translation": "speechprompt.generate.translation_evaluation",
    "evaluate_inpainting": "speechprompt.generate.inpainting_evaluation",
}

__version__ = "0.1.0"
__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
