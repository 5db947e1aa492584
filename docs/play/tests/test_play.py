"""Tests of the page to play: its JavaScript computes the same numbers as axone."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from play.model import CONTEXT, EXAMPLES, export
from play.stories import text
from py_mini_racer import MiniRacer

from axone.autograd import Tensor, grad
from axone.llm import LanguageModel, LanguageModelConfig, SamplingConfig, attention_maps
from axone.nn.functional import cross_entropy, linear
from axone.tokenizer import BPETokenizer

STATIC = Path(__file__).parents[2] / "_static/play"
TEXTS = [*EXAMPLES.values(), "x", "\n", "It's 12 o'clock: «naïve» 🐌\n\n  and\tso on..."]
RUN = """
function run(ids, backward) {
    const run = model.forward(ids);
    if (backward) model.backward(run);
    return JSON.stringify({
        logits: [...run.logits.data],
        attention: run.attention.map((heads) => heads.map((weights) => [...weights.data])),
        losses: run.losses,
        loss: run.loss,
        stream: run.stream.map((x) => [...x.grad]),
        parameters: Object.entries(model.parameters).map(([name, p]) => [name, [...p.data], [...p.grad]]),
        norms: model.gradientNorms(),
    });
}
"""


class Page:
    """The page's scripts in V8, with the model of the same weights."""

    def __init__(self, folder: Path) -> None:
        self.tokenizer = BPETokenizer.train(text(200, seed=1), 400)
        config = LanguageModelConfig(
            vocab_size=self.tokenizer.vocab_size,
            context_length=CONTEXT,
            num_layers=3,
            num_heads=4,
            embed_dim=32,
            position="rotary",
        )
        rng = np.random.default_rng(0)
        self.model = LanguageModel(config, rng=rng).eval()
        for parameter in self.model.parameters():
            parameter.data += rng.normal(0, 0.1, parameter.shape).astype(np.float32)  # biases and norms, too
        export(self.model, self.tokenizer, folder / "weights.js")
        self.engine = MiniRacer()
        for script in (folder / "weights.js", STATIC / "gpt.js", STATIC / "text.js"):
            self.engine.eval(script.read_text(encoding="utf-8"))
        self.engine.eval("const model = new axone.GPT(AXONE_MODEL)")
        self.engine.eval("const tokenizer = new axone.Tokenizer(AXONE_MODEL.merges)")
        self.engine.eval(RUN)

    def evaluate(self, expression: str) -> Any:
        """Return the value of an expression of JavaScript."""
        return json.loads(str(self.engine.eval(f"JSON.stringify({expression})")))

    def run(self, ids: list[int], *, backward: bool = True) -> dict[str, Any]:
        """Return all numbers of a forward and a backward pass."""
        result: dict[str, Any] = json.loads(str(self.engine.eval(f"run({ids}, {json.dumps(backward)})")))
        return result


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Page:
    return Page(tmp_path_factory.mktemp("play"))


def axone_gradients(
    model: LanguageModel, ids: list[int]
) -> tuple[float, list[NDArray[np.floating[Any]]], list[NDArray[np.floating[Any]]]]:
    """Return the loss of a text, and its gradients with respect to all parameters and to the stream after each block."""
    transformer = model.transformer
    stream = [model.embedding(np.array([ids]))]
    for block in transformer.blocks:
        stream.append(block(stream[-1]))
    logits = linear(transformer.norm(stream[-1]), model.output_weight)
    loss = cross_entropy(logits[:, :-1], np.array([ids[1:]]))
    inputs: list[Tensor] = [*model.parameters(), *stream]
    gradients = grad(loss, inputs)
    return loss.item(), gradients[: -len(stream)], gradients[-len(stream) :]


@pytest.mark.parametrize("words", TEXTS)
def test_tokens_are_those_of_axone(page: Page, words: str) -> None:
    ids = page.tokenizer.encode(words)
    assert page.evaluate(f"tokenizer.encode({json.dumps(words)})") == ids
    assert page.evaluate(f"tokenizer.decode({ids})") == words


@pytest.mark.parametrize("words", TEXTS)
def test_logits_and_attention_are_those_of_axone(page: Page, words: str) -> None:
    ids = page.tokenizer.encode(words)
    run = page.run(ids, backward=False)
    logits = page.model(np.array([ids])).numpy()[0]
    np.testing.assert_allclose(np.reshape(run["logits"], logits.shape), logits, atol=1e-4)
    maps = attention_maps(page.model, np.array(ids))
    np.testing.assert_allclose(np.reshape(run["attention"], maps.shape), maps, atol=1e-5)


@pytest.mark.parametrize("words", [words for words in TEXTS if len(words) > 1])
def test_losses_and_gradients_are_those_of_axone(page: Page, words: str) -> None:
    ids = page.tokenizer.encode(words)
    run = page.run(ids)
    loss, parameters, stream = axone_gradients(page.model, ids)
    assert run["loss"] == pytest.approx(loss, abs=1e-4)
    assert np.mean(run["losses"]) == pytest.approx(loss, abs=1e-4)
    for (name, _), (own, _, gradient), expected in zip(
        page.model.named_parameters(), run["parameters"], parameters, strict=True
    ):
        assert own == name
        np.testing.assert_allclose(np.reshape(gradient, expected.shape), expected, atol=1e-4)
    for gradient, expected in zip(run["stream"], stream, strict=True):
        np.testing.assert_allclose(np.reshape(gradient, expected.shape), expected, atol=1e-4)


def test_norms_of_gradients_are_those_of_axone_for_each_block(page: Page) -> None:
    ids = page.tokenizer.encode(TEXTS[0])
    names = [name for name, _ in page.model.named_parameters()]
    gradients = dict(zip(names, axone_gradients(page.model, ids)[1], strict=True))
    expected = {
        part: np.sqrt(sum(float((g.astype(float) ** 2).sum()) for name, g in gradients.items() if key in name))
        for part, key in {
            "embedding": "embedding.weight",
            **{f"block {i + 1}": f"blocks.{i}." for i in range(3)},
            "norm": "transformer.norm.",
        }.items()
    }
    norms = {part["name"]: part["norm"] for part in page.run(ids)["norms"]}
    assert norms == pytest.approx(expected, abs=1e-4)


def test_a_step_of_gradient_descent_lowers_the_loss_and_reset_restores_it(page: Page) -> None:
    ids = page.tokenizer.encode(TEXTS[0])
    before = page.run(ids)
    page.engine.eval("model.step(0.01)")
    after = page.run(ids)["loss"]
    page.engine.eval("model.reset()")
    assert after < before["loss"]
    assert page.run(ids)["loss"] == before["loss"]


def test_weights_are_the_rounded_ones_of_axone(page: Page) -> None:
    run = page.run([1, 2])
    for (name, parameter), (own, values, _) in zip(page.model.named_parameters(), run["parameters"], strict=True):
        assert own == name
        np.testing.assert_array_equal(np.reshape(values, parameter.shape), parameter.data)


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p"),
    [(0.0, None, 1.0), (1.0, None, 1.0), (0.5, 7, 1.0), (2.0, None, 0.4), (0.8, 12, 0.9), (1.3, 1, 0.05)],
)
def test_filters_keep_the_tokens_that_axone_keeps(
    page: Page, temperature: float, top_k: int | None, top_p: float
) -> None:
    for logits in np.random.default_rng(1).normal(0, 3, (20, 300)):
        config = SamplingConfig(temperature=temperature, top_k=top_k, top_p=top_p)
        scores = config.filter(logits, [])
        expected = np.exp(scores - scores.max())
        if temperature == 0:
            expected = (scores == scores.max()).astype(float)
        k = "Infinity" if top_k is None else top_k
        options = f"{{temperature: {temperature}, topK: {k}, topP: {top_p}}}"
        probabilities = page.evaluate(f"[...axone.filtered({logits.tolist()}, {options})]")
        np.testing.assert_allclose(probabilities, expected / expected.sum(), atol=1e-12)


def test_drawn_tokens_follow_the_probabilities(page: Page) -> None:
    assert page.evaluate("[0, 0.24, 0.26, 0.99].map((u) => axone.draw([0.25, 0, 0.75], u))") == [0, 0, 2, 2]
    numbers = page.evaluate("Array.from({length: 20000}, axone.generator(3))")
    counts, _ = np.histogram(numbers, bins=10, range=(0, 1))
    assert np.abs(counts - 2000).max() < 200
    assert page.evaluate("axone.generator(3)()") == numbers[0]
