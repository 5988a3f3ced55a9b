import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from units.errors import InputError
from vocoder.segments import SegmentSampler, VocoderExample, pad_runs, run_lengths

HOP = 4


def example(units: list[int], speaker: int, dtype: type = np.float32) -> VocoderExample:
    """A wave that spells its units and speaker, plus some samples after the last whole frame."""
    frames = np.array(units, dtype=np.int64)
    wave = np.append(np.repeat(frames / 64 + speaker / 8, HOP), [9 / 64] * 3)
    if dtype is np.int16:
        return VocoderExample(np.round(wave * 32768).astype(np.int16), frames, speaker)
    return VocoderExample(wave.astype(np.float32), frames, speaker)


@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(
        st.tuples(st.lists(st.integers(0, 7), min_size=1, max_size=12), st.integers(0, 2)),
        min_size=1,
        max_size=6,
    ),
    segment_frames=st.integers(1, 20),
    step=st.integers(0, 10**6),
    dtype=st.sampled_from([np.float32, np.int16]),
)
def test_samples_stay_with_their_units_and_speakers(
    rows: list[tuple[list[int], int]], segment_frames: int, step: int, dtype: type
) -> None:
    sampler = SegmentSampler([example(units, speaker, dtype) for units, speaker in rows], HOP, segment_frames)
    waves_BS, units_BT, speakers_B, f0_BF = sampler.segments(step, 5)
    assert f0_BF is None
    assert waves_BS.shape == (5, segment_frames * HOP)
    assert waves_BS.dtype == torch.float32
    assert units_BT.shape == (5, segment_frames)
    spelled = units_BT.repeat_interleave(HOP, dim=1) / 64 + speakers_B.unsqueeze(1) / 8
    torch.testing.assert_close(waves_BS, spelled.float(), atol=1e-4, rtol=0)


def test_a_long_utterance_gives_its_own_stretches() -> None:
    units = np.random.default_rng(0).integers(8, size=400)
    sampler = SegmentSampler([example(list(units), 0)], HOP, 10)
    units_BT = sampler.segments(0, 20).units_BT
    track = np.concatenate([units, units])
    stretches = {tuple(track[i : i + 10]) for i in range(400)}
    assert all(tuple(row) in stretches for row in units_BT.tolist())


def test_a_step_and_a_seed_fix_the_batch() -> None:
    examples = [example(list(range(8)) * 10, 0), example(list(range(8)) * 5, 1)]
    first, again = (SegmentSampler(examples, HOP, 6, seed=3) for _ in range(2))
    first.segments(1, 4)
    drawn, drawn_again = ((*run.segments(7, 4)[:3], *run.runs(7, 2)) for run in (first, again))
    for a, b in zip(drawn, drawn_again, strict=True):
        torch.testing.assert_close(a, b, atol=0, rtol=0)
    assert not torch.equal(first.segments(7, 4).units_BT, first.segments(8, 4).units_BT)
    assert not torch.equal(
        first.segments(7, 4).units_BT, SegmentSampler(examples, HOP, 6, seed=4).segments(7, 4).units_BT
    )


@pytest.mark.parametrize(("power", "share"), [(1.0, 0.9), (0.0, 0.5)])
def test_speakers_are_drawn_by_their_time_to_a_power(power: float, share: float) -> None:
    examples = [example([1] * 90, 0), example([2] * 10, 5)]
    speakers_B = SegmentSampler(examples, HOP, 2, speaker_power=power).segments(0, 2000).speakers_B
    assert set(speakers_B.tolist()) == {0, 5}
    assert (speakers_B == 0).float().mean().item() == pytest.approx(share, abs=0.04)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=40))
def test_run_lengths_undo_repetition(frames: list[int]) -> None:
    units, durations = run_lengths(np.array(frames))
    assert np.repeat(units, durations).tolist() == frames
    assert (units[1:] != units[:-1]).all()
    assert (durations >= 1).all()


def test_padding_is_masked() -> None:
    units_BT, duration_BT, mask_BT = pad_runs([run_lengths(np.array([3, 3, 1])), run_lengths(np.array([0]))])
    assert units_BT.tolist() == [[3, 1], [0, 0]]
    assert duration_BT.tolist() == [[2, 1], [1, 0]]
    assert mask_BT.tolist() == [[True, True], [True, False]]


def test_bad_examples_are_named() -> None:
    with pytest.raises(InputError, match="at least one"):
        SegmentSampler([], HOP, 4)
    short = VocoderExample(np.zeros(7, dtype=np.float32), np.zeros(2, dtype=np.int64))
    with pytest.raises(InputError, match="example 1"):
        SegmentSampler([example([1], 0), short], HOP, 4)
