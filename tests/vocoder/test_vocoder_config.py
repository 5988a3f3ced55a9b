import dataclasses
import json

import pytest

from units.errors import InputError
from vocoder.config import DurationPredictorConfig, HiFiGANConfig

PUBLISHED = {  # the keys of a published config.json that concern the structure, and some that do not
    "resblock": "1",
    "upsample_rates": [5, 4, 4, 2, 2],
    "upsample_kernel_sizes": [11, 8, 8, 4, 4],
    "upsample_initial_channel": 512,
    "resblock_kernel_sizes": [3, 7, 11],
    "resblock_dilation_sizes": [[1, 3, 5], [1, 3, 5], [1, 3, 5]],
    "num_embeddings": 100,
    "embedding_dim": 128,
    "model_in_dim": 256,
    "code_hop_size": 320,
    "sampling_rate": 16000,
    "learning_rate": 0.0002,
    "f0": False,
    "multispkr": "_",
    "dur_predictor_params": {
        "encoder_embed_dim": 128,
        "var_pred_hidden_dim": 128,
        "var_pred_kernel_size": 3,
        "var_pred_dropout": 0.5,
    },
    "dist_config": {"dist_backend": "nccl"},
}


def test_a_published_config_is_read() -> None:
    config = HiFiGANConfig.from_dict(PUBLISHED)
    assert config == HiFiGANConfig(multispkr=True, dur_predictor_params=DurationPredictorConfig())
    assert config.hop_length == 320
    assert config.num_speakers == 200


def test_json_round_trip() -> None:
    config = HiFiGANConfig.from_dict(PUBLISHED)
    assert HiFiGANConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_null_means_absent() -> None:
    config = HiFiGANConfig.from_dict(PUBLISHED | {"multispkr": None, "model_in_dim": 128})
    assert not config.multispkr
    assert config.model_in_dim == 128


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"upsample_rates": [5, 4, 4, 2]}, "upsample_kernel_sizes"),
        ({"upsample_kernel_sizes": [10, 8, 8, 4, 4]}, "upsample_kernel_sizes"),
        ({"upsample_initial_channel": 500}, "upsample_initial_channel"),
        ({"resblock_dilation_sizes": [[1, 3, 5]]}, "resblock_dilation_sizes"),
        ({"resblock_kernel_sizes": [3, 7, 10]}, "resblock_kernel_sizes"),
        ({"model_in_dim": 128}, "model_in_dim"),
        ({"dur_predictor_params": {"encoder_embed_dim": 64}}, "encoder_embed_dim"),
        ({"f0_quantizer": {}}, "f0_quantizer"),
        ({"code_quantizer": {}}, "code_quantizer"),
    ],
)
def test_sizes_that_describe_no_generator_are_refused_by_name(changes: dict[str, object], named: str) -> None:
    with pytest.raises(InputError, match=named):
        HiFiGANConfig.from_dict(PUBLISHED | changes)


def test_context_grows_with_kernels() -> None:
    config = HiFiGANConfig()
    narrow = dataclasses.replace(config, resblock_kernel_sizes=(3, 3, 3))
    assert 3 < narrow.context_frames < config.context_frames
