import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from vocoder.convolution import Conv1d, ConvTranspose1d


@settings(max_examples=15, deadline=None)
@given(
    groups=st.sampled_from([1, 2]),
    width=st.integers(1, 5),
    length=st.integers(12, 40),
    half=st.integers(0, 3),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 3),
)
def test_convolution_is_torchs(
    groups: int, width: int, length: int, half: int, stride: int, dilation: int
) -> None:
    torch.manual_seed(0)
    sizes = (2 * width, 4, 2 * half + 1, stride, half * dilation, dilation, groups)
    ours, torchs = Conv1d(*sizes), nn.Conv1d(*sizes)
    torchs.load_state_dict(ours.state_dict())
    x_BCT = torch.randn(2, 2 * width, length)
    torch.testing.assert_close(ours(x_BCT), torchs(x_BCT), atol=1e-5, rtol=1e-5)


@settings(max_examples=10, deadline=None)
@given(width=st.integers(1, 5), length=st.integers(1, 20), rate=st.integers(1, 5), extra=st.integers(0, 3))
def test_transposed_convolution_is_torchs(width: int, length: int, rate: int, extra: int) -> None:
    torch.manual_seed(0)
    sizes = (width, 3, rate + 2 * extra, rate, extra)
    ours, torchs = ConvTranspose1d(*sizes), nn.ConvTranspose1d(*sizes)
    torchs.load_state_dict(ours.state_dict())
    x_BCT = torch.randn(2, width, length)
    torch.testing.assert_close(ours(x_BCT), torchs(x_BCT), atol=1e-5, rtol=1e-5)
    assert ours(x_BCT).shape[-1] == length * rate


def test_gradients_are_torchs() -> None:
    torch.manual_seed(0)
    ours, torchs = Conv1d(4, 6, 3, padding=1), nn.Conv1d(4, 6, 3, padding=1)
    torchs.load_state_dict(ours.state_dict())
    x_BCT = torch.randn(2, 4, 9)
    for conv in (ours, torchs):
        conv(x_BCT).square().sum().backward()
    for mine, theirs in zip(ours.parameters(), torchs.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, atol=1e-4, rtol=1e-4)
