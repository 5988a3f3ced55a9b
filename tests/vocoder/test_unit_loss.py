import math

import torch

from vocoder.unit_loss import CodebookUnitLoss

CENTROIDS_KD = torch.tensor([[0.0, 0.0], [4.0, 0.0], [0.0, 4.0]])


def frames(wave_BS: torch.Tensor) -> torch.Tensor:
    """Two samples a frame, which are its features; the last frame does not fit."""
    return wave_BS[:, :-2].unflatten(1, (-1, 2))


def test_the_right_units_cost_nothing_and_wrong_ones_much() -> None:
    loss = CodebookUnitLoss(frames, CENTROIDS_KD)
    wave_BS = torch.tensor([[0.0, 0.0, 4.0, 0.0, 0.0, 4.0, 9.0, 9.0]])
    assert loss(wave_BS, torch.tensor([[0, 1, 2, 0]])) < 1e-3
    assert loss(wave_BS, torch.tensor([[0, 1, 1, 0]])) > 5


def test_a_frame_amid_all_centroids_is_a_guess() -> None:
    wave_BS = torch.tensor([[2.0, 2.0, 0.0, 0.0]])
    loss = CodebookUnitLoss(frames, CENTROIDS_KD)(wave_BS, torch.tensor([[1, 0]]))
    assert abs(loss.item() - math.log(3)) < 1e-5


def test_temperature_follows_the_scale_of_the_features() -> None:
    wave_BS, units_BT = torch.tensor([[1.9, 0.3, 0.0, 0.0]]), torch.tensor([[1, 0]])
    small = CodebookUnitLoss(frames, CENTROIDS_KD)(wave_BS, units_BT)
    large = CodebookUnitLoss(frames, 100 * CENTROIDS_KD)(100 * wave_BS, units_BT)
    torch.testing.assert_close(small, large)


def test_following_the_gradient_brings_the_units_back() -> None:
    torch.manual_seed(0)
    units_BT = torch.randint(3, (4, 11))
    wave_BS = torch.randn(4, 22, requires_grad=True)
    loss = CodebookUnitLoss(frames, CENTROIDS_KD)
    optimizer = torch.optim.SGD([wave_BS], lr=1.0)
    for _ in range(200):
        optimizer.zero_grad()
        loss(wave_BS, units_BT).backward()
        optimizer.step()
    heard_BT = torch.cdist(frames(wave_BS.detach()), CENTROIDS_KD).argmin(dim=-1)
    assert torch.equal(heard_BT, units_BT[:, :-1])
