"""Prompt tuning and what it is compared with: same data, same seeds, one signature.

    from pathlib import Path

    import speechprompt as sp
    from speechprompt.methods import Job, run_method

    task, stack = sp.get_task("spoken_digits"), sp.load_stack("mini")
    for name in ("prompt", "lora", "majority"):
        outcome = run_method(name, Job(task, stack, Path("cells") / name, settings={}))
        print(name, outcome.trainable_parameters, outcome.predictions["test"][:3])

SpeechPrompt (Chang et al., Interspeech 2022, arXiv:2203.16773) sets prompts against two costlier methods: fine-tuning
every weight of the same unit LM (`finetune`), and a model per task on the encoder's continuous features, as in SUPERB
(`head`). SpeechPrompt v2 (Chang et al., 2023, arXiv:2303.00733) varies the unit LM and the verbalizer. The tables of
neither hold a cheaper method, so that a reader cannot tell how much of a score is the LM's and how much the units give
away by themselves: `majority` is the score of knowing nothing, `ngram` that of counting units, `prompt-ngram` what the
two know together. `input-prompt` and `lora` train as few weights as prompts do, elsewhere. docs/methods.md tells more.
"""

from __future__ import annotations

from speechprompt.methods import finetune, head, lora, majority, ngram, prompt_ngram, prompts
from speechprompt.methods.base import Job, Method, MethodError, Outcome

__all__ = ["METHODS", "Job", "Method", "MethodError", "Outcome", "run_method"]

METHODS: dict[str, Method] = {
    "prompt": prompts.prompt,
    "input-prompt": prompts.input_prompt,
    "lora": lora.lora,
    "finetune": finetune.finetune,
    "head": head.head,
    "ngram": ngram.ngram,
    "prompt-ngram": prompt_ngram.prompt_ngram,
    "majority": majority.majority,
}


def run_method(name: str, job: Job) -> Outcome:
    """Run one of METHODS on a task; what a killed run left in the job's folder is continued, a finished one is read.

        outcome = run_method("finetune", Job(task, stack, Path("cells/finetune"), seed=1, settings={"lr": 3e-4}))

    settings: fields of PromptConfig, TrainConfig and the method's own, by name; `lr` may be several rates, out of which
    validation chooses.

    Raises: MethodError: an unknown method or setting, or a task that the method cannot do; RunExistsError: the folder
    holds a run of other settings; RunError: training diverged; AudioError: recordings that cannot be used.
    """
    if name not in METHODS:
        raise MethodError(f"method: expected one of {', '.join(METHODS)}, got {name!r}; choose one of these")
    return METHODS[name](job)
