"""apps/neuron.py: training, pictures and wrong options."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from axone.cli import neuron
from axone.cli.console import UserError
from axone.nn.scalar import MLP

App = Callable[[Callable[[], int], str], int]
PNG = b"\x89PNG\r\n\x1a\n"


def test_points_are_on_two_half_circles() -> None:
    points, targets = neuron.two_moons(40, 0.0, np.random.default_rng(0))
    assert targets == [1.0, -1.0] * 20
    upper, lower = points[::2], points[1::2]
    np.testing.assert_allclose(np.hypot(*upper.T), 1.0)
    np.testing.assert_allclose(np.hypot(*(lower - [1.0, 0.5]).T), 1.0)
    assert upper[:, 1].min() > 0
    assert lower[:, 1].max() < 0.5


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_it_learns_and_draws(
    app: App, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, optimizer: str
) -> None:
    monkeypatch.setattr(neuron, "GRID", 8)
    line = f"neuron.py --neurons 6 --points 20 --noise 0 --steps 60 --optimizer {optimizer} --out pictures"
    assert app(neuron.main, line) == 0
    out, err = capfd.readouterr()
    assert out.startswith("7 neurons, 25 weights, 20 points\n")
    steps = [text.split() for text in out.splitlines() if text.startswith("step")]
    assert [text[1] for text in steps] == ["1", "10", "20", "30", "40", "50", "60"]
    assert float(steps[-1][3]) < 0.5 * float(steps[0][3])
    assert err == ""
    assert Path("pictures/boundary.png").read_bytes().startswith(PNG)
    drawn = Path("pictures/neuron.svg").read_text(encoding="utf-8")
    assert all(f">{name}<" in drawn for name in ("w1", "w2", "bias"))
    assert drawn.count(">tanh<") == 1
    assert drawn.count(">*<") == 2


def test_points_have_the_color_of_their_target_in_the_picture_of_the_output(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neuron, "GRID", 4)
    rng = np.random.default_rng(0)
    points, targets = neuron.two_moons(10, 0.0, rng)
    figure = neuron.plot(MLP(2, [1], rng=rng), points, targets, neuron.History([1.0], [1.0]))
    shade, *_, ones, minus_ones = figure.axes[0].collections
    np.testing.assert_array_equal(ones.get_offsets(), points[::2])
    np.testing.assert_array_equal(minus_ones.get_offsets(), points[1::2])
    colormap = shade.get_cmap()
    for group, output in ((ones, 0.9), (minus_ones, 0.1)):
        (color,), around = np.asarray(group.get_facecolor()), np.asarray(colormap(output))
        assert (color[0] > color[2]) == (around[0] > around[2])  # more red than blue
        assert color[:3].sum() < around[:3].sum() - 0.3  # darker


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ("--points 1", "--points (1) must be at least 2"),
        ("--steps 0", "--steps (0) must be at least 1"),
        ("--noise nan", "--noise (nan) must be from 0 to 10"),
        ("--noise inf", "--noise (inf) must be from 0 to 10"),
        ("--noise 1e308", "--noise (1e+308) must be from 0 to 10"),
        ("--seed -1", "--seed (-1) must be at least 0"),
        ("--neurons 3 0", "--neurons (3 0) must be at least 1 in each layer"),
        ("--learning-rate -1", "--learning-rate (-1.0) must be from 0 to 1000"),
        ("--learning-rate inf", "--learning-rate (inf) must be from 0 to 1000"),
        ("--optimizer lion", "invalid choice: 'lion'"),
        ("--out taken", "taken"),
    ],
)
def test_a_wrong_option_is_refused_in_one_sentence(
    app: App, tmp_path: Path, capfd: pytest.CaptureFixture[str], arguments: str, reason: str
) -> None:
    (tmp_path / "taken").touch()
    assert app(neuron.main, f"neuron.py {arguments}") == 2
    out, err = capfd.readouterr()
    assert out == ""
    last = err.splitlines()[-1]
    assert last.startswith("neuron.py: error: ")
    assert reason in last
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


@pytest.mark.parametrize("steps", [1, 50])  # only the picture sees the last weights
def test_weights_that_diverge_are_refused(
    app: App, tmp_path: Path, capfd: pytest.CaptureFixture[str], steps: int
) -> None:
    line = f"neuron.py --points 4 --steps {steps} --neurons 3 3 --activation leaky_relu --learning-rate 1000"
    assert app(neuron.main, line) == 2
    assert "lower --learning-rate" in capfd.readouterr().err.splitlines()[-1]
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_an_output_that_is_nan_is_refused() -> None:
    network = MLP(2, [1], rng=np.random.default_rng(0))
    network.parameters()[0].data = float("nan")
    with pytest.raises(UserError, match=r"an output of the network \(nan\) .*: lower --learning-rate"):
        neuron.outputs(network, np.ones((1, 2)))
