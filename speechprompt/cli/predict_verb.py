"""The verb predict."""

from __future__ import annotations

from speechprompt.cli.boundary import emit
from speechprompt.cli.options import (
    AudioFiles,
    Beam,
    Device,
    Json,
    LengthFactor,
    MaxLength,
    Precision,
    RunFolder,
)


def predict(
    run: RunFolder,
    audio: AudioFiles,
    beam: Beam = 1,
    max_length: MaxLength = None,
    length_factor: LengthFactor = None,
    device: Device = "cpu",
    precision: Precision = "float32",
    as_json: Json = False,
) -> None:
    """Label recordings with a trained prompt, or write down what a sequence task's prompt hears in them.

    Example: speechprompt predict runs/my_words clip.wav another.flac
    """
    from speechprompt.evaluation import predict as predict_files
    from speechprompt.sequence.decoding import DecodingConfig

    decoding = DecodingConfig(beam, max_length, length_factor)
    predictions = predict_files(run, audio, decoding=decoding, device=device, precision=precision)
    emit(
        {
            "predictions": [
                {
                    "path": str(prediction.path),
                    "label": prediction.label,
                    "probability": prediction.probability,
                    "top": [{"label": label, "probability": p} for label, p in prediction.top],
                }
                for prediction in predictions
            ]
        },
        "\n".join(f"{p.path}: {p.label} ({100 * p.probability:.1f}%)" for p in predictions),
        as_json=as_json,
    )
