"""Prompt-tune one frozen unit language model for speech tasks.

    import speechprompt as sp

    stack = sp.load_stack("mini")
    task = sp.get_task("spoken_digits")

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
    "load_stack": "speechprompt.stack",
    "stack_names": "speechprompt.stack",
    "TrainConfig": "speechprompt.train_config",
    "SamplingConfig": "speechprompt.decode",
    "Continuation": "speechprompt.generate.continuation",
    "continue_speech": "speechprompt.generate.continuation",
    "quickstart": "speechprompt.quickstart",
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
