"""What several tests share: the corpora beside the checkout, the bundled digits, and a whole stack in small."""

from __future__ import annotations

import os

# One thread per test worker, and nothing from the network: both must be settled before torch and transformers load.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"

import csv
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings

# The same examples every time, and no limit per example: a busy machine is not a failure.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")

ROOT = Path(__file__).resolve().parent.parent
N_UNITS = 100
N_CODEBOOK_CLIPS = 60


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keeps quantized units of tests out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPEECHPROMPT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Draws of torch's shared generator do not depend on which tests the same process ran before: those of fixtures,"""
    torch.manual_seed(0)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call() -> None:
    """and those of the test, whether or not its fixtures were made before."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of corpora: SPEECHPROMPT_SHARED, or ../shared/data beside the checkout.

    Without it the test is skipped, or fails where SPEECHPROMPT_REQUIRE_SHARED is 1.
    """
    folder = Path(os.environ.get("SPEECHPROMPT_SHARED", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        reason = (
            f"{folder}: expected the corpora this test reads, got no such folder; set SPEECHPROMPT_SHARED"
        )
        if os.environ.get("SPEECHPROMPT_REQUIRE_SHARED") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return folder


@pytest.fixture(scope="session")
def golden() -> Path:
    """The folder of reference data: SPEECHPROMPT_GOLDEN, or ../shared/golden beside the checkout.

    Without it the test is skipped, or fails where SPEECHPROMPT_REQUIRE_SHARED is 1.
    """
    folder = Path(os.environ.get("SPEECHPROMPT_GOLDEN", ROOT.parent / "shared" / "golden"))
    if not (folder / "ulm" / "spec.json").is_file():
        reason = f"{folder}: expected the reference data, got no such folder; set SPEECHPROMPT_GOLDEN"
        if os.environ.get("SPEECHPROMPT_REQUIRE_SHARED") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return folder


@pytest.fixture(scope="session")
def digits_sample() -> Path:
    """The bundled spoken digits: train.csv, test.csv and their recordings."""
    return ROOT / "tasks" / "assets" / "spoken_digits"


@pytest.fixture(scope="session")
def two_words(digits_sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a task as a user would have it: train.csv, test.csv, and recordings of two words."""
    folder = tmp_path_factory.mktemp("two_words")
    for split, n_clips in (("train", 12), ("test", 4)):
        with (digits_sample / f"{split}.csv").open(encoding="utf-8", newline="") as lines:
            rows = list(csv.DictReader(lines))
        with (folder / f"{split}.csv").open("w", encoding="utf-8", newline="") as lines:
            table = csv.writer(lines)
            table.writerow(["path", "label"])
            for digit, word in (("1", "واحد"), ("6", "six")):
                chosen = [row["path"] for row in rows if row["label"] == digit][:n_clips]
                for path in chosen:
                    shutil.copy(digits_sample / path, folder / Path(path).name)
                    table.writerow((Path(path).name, word))
    return folder


def build_tiny_stack(folder: Path) -> Path:
    """Writes a stack of random weights with the structure of a real one, its codebook fitted on bundled digits.

    Args:
        folder: made here; parts and stack.json go into it.
    """
    # Imported here: a test of one package then loads that package alone.
    from transformers import HubertConfig, HubertModel, Wav2Vec2FeatureExtractor

    from speechprompt.lm.gslm import GSLM
    from speechprompt.lm.transformer import TransformerConfig
    from speechprompt.stack_folder import write_stack_json
    from speechprompt.vocab import UnitVocab
    from tasks import get_task
    from units.audio import read_audio
    from units.encoders.hubert import HubertEncoder
    from units.kmeans import fit_codebook, save_codebook
    from units.quantizer import CodebookQuantizer
    from vocoder.base import UnitVocoder
    from vocoder.config import DurationPredictorConfig, HiFiGANConfig
    from vocoder.hifigan import UnitHiFiGAN

    torch.manual_seed(0)
    hubert = HubertModel(
        HubertConfig(
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=64,
            conv_dim=(16, 16, 16, 16),
            conv_kernel=(20, 8, 8, 2),
            conv_stride=(10, 4, 4, 2),
            feat_extract_norm="group",
            num_conv_pos_embeddings=16,
            num_conv_pos_embedding_groups=4,
            hidden_dropout=0.0,
            attention_dropout=0.0,
            feat_proj_dropout=0.0,
            layerdrop=0.0,
        )
    )
    hubert.eval().save_pretrained(folder / "encoder")
    Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(folder / "encoder")

    encoder = HubertEncoder(folder / "encoder", layer=2, name="tiny")
    clips = [utterance.path for utterance in get_task("spoken_digits").utterances("train")]
    chosen = [path for path in clips[:: len(clips) // N_CODEBOOK_CLIPS] if path is not None]
    features_BFD, counts_B = encoder.encode([read_audio(path) for path in chosen])
    frames = [row[:count].numpy() for row, count in zip(features_BFD, counts_B, strict=True)]
    centroids_KD = fit_codebook(frames, N_UNITS)
    spec = CodebookQuantizer(encoder, centroids_KD).spec
    save_codebook(folder / "codebook.safetensors", centroids_KD, spec)

    decoder = TransformerConfig(n_layers=2, d_model=32, n_heads=4, d_ffn=64, max_positions=1024)
    GSLM(decoder, UnitVocab.from_n_units(N_UNITS)).initialise(seed=0).save(folder / "lm")

    generator = UnitHiFiGAN(
        HiFiGANConfig(
            num_embeddings=N_UNITS,
            embedding_dim=16,
            upsample_initial_channel=32,
            resblock_kernel_sizes=(3,),
            resblock_dilation_sizes=((1, 3),),
            dur_predictor_params=DurationPredictorConfig(encoder_embed_dim=16, var_pred_hidden_dim=16),
        )
    )
    UnitVocoder(generator, spec).save(folder / "vocoder")

    write_stack_json(
        folder,
        name="tiny",
        spec=spec,
        encoder={"family": "hubert", "folder": "encoder", "layer": spec.layer},
        lm={"family": "gslm", "folder": "lm"},
        vocoder={"folder": "vocoder"},
    )
    return folder


@pytest.fixture(scope="session")
def tiny_stack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a stack in small: hubert encoder, 100 units, GSLM and vocoder, as `load_stack` takes it."""
    return build_tiny_stack(tmp_path_factory.mktemp("stacks") / "tiny")
