from __future__ import annotations

import math

import pytest
import torch

from act_model.nn.position import LearnedPosition2d, SinePosition2d, sinusoid_table


def test_the_sinusoid_table_is_that_of_the_paper() -> None:
    table = sinusoid_table(9, 8)
    for position in range(9):
        for i in range(8):
            angle = position / 10000 ** (2 * (i // 2) / 8)
            expected = math.cos(angle) if i % 2 else math.sin(angle)
            assert table[position, i].item() == pytest.approx(expected, abs=1e-6)


def test_sine_positions_are_those_of_detr() -> None:
    h, w, dim = 3, 5, 16
    code = SinePosition2d(dim)(torch.zeros(h, w)).view(h, w, dim)
    half = dim // 2
    for y in range(h):
        for x in range(w):
            for i in range(dim):
                along = (y + 1) / h if i < half else (x + 1) / w
                j = i % half
                angle = 2 * math.pi * along / 10000 ** (2 * (j // 2) / half)
                expected = math.cos(angle) if j % 2 else math.sin(angle)
                assert code[y, x, i].item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (7, 4)], ids=str)
def test_every_cell_of_a_map_of_any_size_has_its_own_code(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    features = torch.zeros(2, 9, *size)
    for position in (SinePosition2d(16), LearnedPosition2d(16, (2, 3))):
        code = position(features)
        assert code.shape == (size[0] * size[1], 16)
        distance = torch.cdist(code, code) + torch.eye(len(code)) * 9
        assert distance.min() > 1e-3


def test_learned_positions_are_rows_then_columns_and_interpolate_between_them() -> None:
    position = LearnedPosition2d(4, (2, 3))
    with torch.no_grad():
        position.rows_hd.copy_(torch.tensor([[0.0, 0.0], [1.0, 10.0]]))
        position.columns_wd.copy_(torch.tensor([[3.0, 3.0], [4.0, 4.0], [5.0, 5.0]]))
    code = position(torch.zeros(2, 3)).view(2, 3, 4)
    assert code[1, 2].tolist() == [1, 10, 5, 5]
    finer = position(torch.zeros(5, 3)).view(5, 3, 4)
    assert finer[:, 0, 1].tolist() == [0, 2.5, 5, 7.5, 10]
