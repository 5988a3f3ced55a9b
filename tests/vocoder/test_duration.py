import torch

from vocoder.config import DurationPredictorConfig
from vocoder.duration import DurationPredictor, frames_from_log_duration
from vocoder.losses import duration_loss


def test_a_prediction_does_not_depend_on_the_batch() -> None:
    torch.manual_seed(0)
    predictor = DurationPredictor(DurationPredictorConfig(8, 8)).eval()
    x_BTE = torch.randn(2, 9, 8)
    mask_BT = torch.ones(2, 9, dtype=torch.bool)
    mask_BT[0, 5:] = False
    with torch.inference_mode():
        together_BT, alone_BT = predictor(x_BTE, mask_BT), predictor(x_BTE[:1, :5])
        unmasked_BT = predictor(x_BTE)
    torch.testing.assert_close(together_BT[0, :5], alone_BT[0], atol=1e-6, rtol=0)
    assert (unmasked_BT[0, :5] - alone_BT[0]).abs().max() > 1e-4


def test_half_frames_round_to_even_and_no_unit_vanishes() -> None:
    log_duration = torch.log(torch.tensor([[1.0, 1.4, 2.6, 8.4, 8.6]], dtype=torch.float64))
    assert frames_from_log_duration(log_duration).tolist() == [[1, 1, 2, 7, 8]]
    assert frames_from_log_duration(torch.tensor([[-9.0]])).tolist() == [[1]]


def test_planted_durations_are_recovered() -> None:
    """Units 0 to 5 last one to six frames; units after a 5 last twice that."""
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    table = torch.nn.Embedding(6, 16)
    predictor = DurationPredictor(DurationPredictorConfig(16, 32, var_pred_dropout=0.0))
    optimizer = torch.optim.Adam([*table.parameters(), *predictor.parameters()], 1e-2)
    for _ in range(150):
        units_BT = torch.randint(6, (8, 20), generator=generator)
        after_5_BT = torch.nn.functional.pad(units_BT[:, :-1] == 5, (1, 0))
        duration_BT = (1 + units_BT) * (1 + after_5_BT.long())
        log_duration_BT = predictor(table(units_BT))
        loss = duration_loss(log_duration_BT, duration_BT, torch.ones_like(units_BT, dtype=torch.bool))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    right = frames_from_log_duration(log_duration_BT) == duration_BT
    assert right.float().mean() > 0.95
