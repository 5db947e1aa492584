"""Int8 weights: rounding, products, and layers that have them."""

import threading

import numpy as np
import pytest
from numpy.typing import NDArray

from axone.autograd import Tensor
from axone.nn import Embedding, Int8Embedding, Int8Linear, Linear, Parameter
from axone.nn.extend import Int8Weight, dense_product, int8_block_rows

Array = NDArray[np.float32]


def random(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


@pytest.mark.parametrize("rows", [1, 5, 1024, 2500])
def test_numbers_are_the_closest_ones(rows: int) -> None:
    matrix = random(rows, 7) * random(rows, 1, seed=1)
    weight = Int8Weight.quantized(matrix)
    steps = np.abs(matrix).max(1, keepdims=True) / 127
    assert (np.abs(weight.dense() - matrix) <= steps * 0.501).all()
    assert (np.abs(weight.numbers).max(1) == 127).all()
    assert (weight.shape, weight.size, len(weight), weight.nbytes) == ((rows, 7), rows * 7, rows, rows * (7 + 4))


def test_a_row_of_zeros_stays_zero() -> None:
    matrix = random(3, 4)
    matrix[1] = 0
    weight = Int8Weight.quantized(matrix)
    assert np.isfinite(weight.scales).all()
    assert not weight.dense()[1].any()


def test_numbers_are_written_where_the_caller_wants_them() -> None:
    memory = np.empty((3, 4), np.int8)
    assert Int8Weight.quantized(random(3, 4), memory).numbers is memory


def test_rows_are_taken_in_float32() -> None:
    weight = Int8Weight.quantized(random(6, 4))
    dense = weight.dense()
    np.testing.assert_array_equal(weight.take([[5, 0], [2, 5]]), dense[[[5, 0], [2, 5]]])
    np.testing.assert_array_equal(weight.take(3), dense[3])
    np.testing.assert_array_equal(weight[2:4].dense(), dense[2:4])
    with pytest.raises(ValueError, match=r"axis \(1\) must be 0"):
        weight.take([0], axis=1)


@pytest.mark.parametrize("rows", [3, int8_block_rows(600), 2 * int8_block_rows(600) + 5])
@pytest.mark.parametrize("positions", [(), (1,), (70,)])
@pytest.mark.parametrize("biased", [False, True])
def test_product_is_that_of_the_whole_matrix(rows: int, positions: tuple[int, ...], biased: bool) -> None:
    weight, x = Int8Weight.quantized(random(rows, 600)), random(*positions, 600, seed=1)
    bias = random(rows, seed=2) if biased else None
    expected = x.astype(np.float64) @ weight.dense().T.astype(np.float64) + (0 if bias is None else bias)
    y = dense_product(weight, bias)(x)
    assert y.dtype == np.float32
    np.testing.assert_allclose(y, expected, atol=1e-3)


def test_threads_may_share_a_product() -> None:
    forward = dense_product(Int8Weight.quantized(random(900, 300)))
    inputs = [random(40, 300, seed=seed) for seed in range(4)]
    alone, together = [forward(x) for x in inputs], [random(0)] * 4

    def compute(number: int) -> None:
        for _ in range(5):
            together[number] = forward(inputs[number])

    threads = [threading.Thread(target=compute, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_array_equal(together, alone)


def test_any_width_has_blocks_of_at_least_one_row() -> None:
    assert [int8_block_rows(width) for width in (576, 1536, 10**6)] == [192, 72, 1]


@pytest.mark.parametrize("biased", [False, True])
def test_a_linear_layer_is_close_to_that_of_float32(biased: bool) -> None:
    linear, x = Linear(40, 30, bias=biased, rng=np.random.default_rng(0)), random(2, 5, 40)
    layer = Int8Linear(Int8Weight.quantized(linear.weight.data), linear.bias)
    expected = linear(Tensor(x)).data
    np.testing.assert_allclose(layer(Tensor(x)).data, expected, atol=0.02)
    np.testing.assert_allclose(layer.inference()(x[0]), layer(Tensor(x)).data[0], atol=1e-6)
    assert repr(layer).startswith(repr(linear).replace("Linear(", "Int8Linear(").split("  ")[0])
    with pytest.raises(ValueError, match="Int8Linear"):
        layer(Tensor(random(2, 41)))


def test_a_bias_remains_a_parameter_and_numbers_are_none() -> None:
    bias = Parameter(random(30))
    layer = Int8Linear(Int8Weight.quantized(random(30, 40)), bias)
    assert dict(layer.named_parameters()) == {"bias": bias}


def test_a_gradient_cannot_pass_through_int8_weights() -> None:
    layer = Int8Linear(Int8Weight.quantized(random(3, 4)))
    loss = layer(Tensor(random(2, 4), requires_grad=True)).sum()
    with pytest.raises(RuntimeError, match="int8 weights have no gradients: load the model with float32 weights"):
        loss.backward()


def test_an_embedding_is_close_to_that_of_float32() -> None:
    embedding, ids = Embedding(9, 4, rng=np.random.default_rng(0)), np.array([[8, 0], [3, 8]])
    layer = Int8Embedding(Int8Weight.quantized(embedding.weight.data))
    np.testing.assert_allclose(layer(ids).data, embedding(ids).data, atol=0.02)
    assert layer.extra_repr() == embedding.extra_repr()
