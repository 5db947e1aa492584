"""Reading together: the bits of one process whoever helps, and no process that stays or is waited for in vain."""

import os
import platform
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from axone.autograd.extend import Array
from axone.llm import LanguageModel, LanguageModelConfig, TextGenerator, TokenDataset, generate
from axone.llm.generation import joint
from axone.llm.generation.batch import BatchReader
from axone.llm.generation.joint import JointReader
from axone.llm.generation.known import is_known
from axone.llm.generation.tensor_parallel import JointReading
from axone.llm.runtime.collectives import SharedAllGather, can_all_gather
from axone.nn import Linear, Sequential

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64", reason="elsewhere nobody reads together"
)
HERE = os.getpid()
KINDS: dict[str, dict[str, Any]] = {
    "gpt2": {},
    "plain": {"bias": False, "tie_embeddings": False, "num_heads": 3, "embed_dim": 12},
    "modern": {"num_kv_heads": 2, "norm": "rms", "mlp": "swiglu", "position": "rotary", "bias": False, "qk_norm": True},
    "one head": {"num_kv_heads": 1, "mlp": "relu2"},
}
IDS = np.random.default_rng(2).integers(0, 19, 40).tolist()


def build(kind: str = "gpt2", dtype: type[np.floating] = np.float32) -> LanguageModel:
    fields: dict[str, Any] = {
        "vocab_size": 19,
        "context_length": 12,
        "num_layers": 2,
        "num_heads": 4,
        "embed_dim": 16,
    }
    model = LanguageModel(LanguageModelConfig(**{**fields, **KINDS[kind]}), rng=np.random.default_rng(0)).eval()
    rng = np.random.default_rng(1)
    for parameter in model.parameters():
        parameter.data += 0.3 * rng.standard_normal(parameter.shape).astype(np.float32)
    return model.astype(dtype)


def reader_of(model: LanguageModel, processes: int = 2) -> JointReader:
    return JointReader(model.transformer, model.embedding.weight.data, model.output_weight.data, processes=processes)


@pytest.fixture
def forked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Let every model be read by two processes; those that are forked, all of which must have gone in the end."""
    processes: list[int] = []
    fork = os.fork

    def spy() -> int:
        processes.append(fork())
        return processes[-1]

    monkeypatch.setattr(os, "fork", spy)
    monkeypatch.setattr(LanguageModel, "reader", reader_of)
    monkeypatch.setattr(joint, "can_all_gather", lambda: True)
    yield processes
    for process in processes:
        assert is_gone(process)


def is_gone(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    return False


def alone(model: LanguageModel, ids: list[int]) -> list[bytes]:
    """Return the bits of the logits after each token as one process reads them."""
    reading = JointReading(
        model.transformer, model.embedding.weight.data, model.output_weight.data, model.make_caches(1), 1
    )
    return [reading.read(token, position).tobytes() for position, token in enumerate(ids)]


def together(read: JointReader, model: LanguageModel, ids: list[int]) -> list[bytes]:
    caches = model.make_caches(1)
    return [read(np.asarray([[token]]), caches).tobytes() for token in ids]


def meddle(monkeypatch: pytest.MonkeyPatch, before: Callable[[int], None]) -> None:
    """Call a function before each meeting, with its number."""
    end, calls = SharedAllGather.gather, [0]

    def meddled(self: SharedAllGather, vector: Array) -> Array:
        calls[0] += 1
        before(calls[0])
        return end(self, vector)

    monkeypatch.setattr(SharedAllGather, "gather", meddled)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", KINDS)
def test_the_bits_do_not_depend_on_how_many_read(forked: list[int], kind: str, dtype: type[np.floating]) -> None:
    model = build(kind, dtype)
    whole = model(np.asarray([IDS[:12]])).data[0]
    for processes in (2, 3):
        with reader_of(model, processes) as read:
            logits = together(read, model, IDS[:12])
        assert logits == alone(model, IDS[:12])
        bound = 1e-4 if dtype is np.float32 else 1e-12
        np.testing.assert_allclose(np.stack([np.frombuffer(row, dtype) for row in logits]), whole, atol=bound)
    heads = model.config.kv_heads
    assert len(forked) == sum(min(processes, heads) - 1 for processes in (2, 3))


@pytest.mark.usefixtures("forked")
def test_the_bits_do_not_depend_on_it_at_the_width_of_gpt2_either() -> None:
    config = LanguageModelConfig.gpt2(vocab_size=19, context_length=64, num_layers=1, hidden_dim=64)
    model = LanguageModel(config, rng=np.random.default_rng(0)).eval()
    ids = np.random.default_rng(1).integers(0, 19, 64).tolist()
    with reader_of(model) as read:
        assert together(read, model, ids) == alone(model, ids)


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_is_the_same_with_help_round_after_round_of_its_context(
    forked: list[int], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build(kind, np.float64)
    with_help = list(generate(model, IDS[:5], max_new_tokens=60, temperature=0))
    monkeypatch.setattr(joint, "can_all_gather", lambda: False)
    assert list(generate(model, IDS[:5], max_new_tokens=60, temperature=0)) == with_help
    assert len(with_help) == 60
    assert len(forked) == (model.config.kv_heads > 1)


def test_a_text_that_is_completed_alone_is_the_one_that_is_streamed(forked: list[int], dataset: TokenDataset) -> None:
    config = LanguageModelConfig(
        vocab_size=dataset.tokenizer.vocab_size, context_length=16, num_layers=2, num_heads=2, embed_dim=16
    )
    generator = TextGenerator(LanguageModel(config, rng=np.random.default_rng(0)).eval(), dataset.tokenizer)
    (completion,) = generator.complete(["the"], max_new_tokens=40, seeds=[3])
    assert completion.text == "".join(generator.stream("the", max_new_tokens=40, rng=np.random.default_rng(3)))
    assert len(forked) == 2


def test_whoever_is_left_of_a_company_is_helped(forked: list[int]) -> None:
    model = build("gpt2", np.float64)
    with BatchReader(model, [IDS[:3], IDS[3:6], IDS[6:9]]) as reader:
        reader.logits()
        reader.append(IDS[:3])
        for token in IDS[9:12]:
            reader.keep([1] if len(reader.sequences) > 1 else [0])  # other caches each time
            whole = model(np.asarray(reader.sequences)).data
            np.testing.assert_allclose(reader.logits(), whole[:, -1], atol=1e-12)
            reader.append([token])
    assert reader.sequences == [[*IDS[3:6], IDS[1], *IDS[9:12]]]
    assert len(forked) == 3


def test_help_ends_with_the_text(forked: list[int]) -> None:
    model = build()
    assert len(list(generate(model, [1], max_new_tokens=5))) == 5
    for closed in (True, False):
        tokens = generate(model, [1], max_new_tokens=50)
        assert [next(tokens), next(tokens)]
        assert not is_gone(forked[-1])
        if closed:
            tokens.close()  # type: ignore[attr-defined]  # it is a generator
        del tokens
        assert is_gone(forked[-1])
    with pytest.raises(KeyError), reader_of(model) as read:
        raise KeyError(together(read, model, [1]))
    assert len(forked) == 4


def test_without_a_block_of_its_own_a_reader_asks_for_no_help(forked: list[int]) -> None:
    model = build()
    reader = BatchReader(model, [[1]])
    for _ in range(3):
        reader.logits()
        reader.append([1])
    assert not forked


@pytest.mark.parametrize("at", ["idle", "meeting"])
def test_who_loses_the_others_goes_on_alone(forked: list[int], at: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build()
    bits = alone(model, IDS[:9])

    def lose(number: int) -> None:
        if os.getpid() == HERE and number == 30:
            os.kill(forked[0], signal.SIGKILL)

    if at == "meeting":
        meddle(monkeypatch, lose)
    with reader_of(model) as read:
        caches = model.make_caches(1)
        for position, token in enumerate(IDS[:9]):
            if at == "idle" and position == 4:
                os.kill(forked[0], signal.SIGKILL)
            assert read(np.asarray([[token]]), caches).tobytes() == bits[position]
    assert len(forked) == 1


def test_who_may_not_fork_goes_on_alone(forked: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", refuse)
    model = build()
    with reader_of(model) as read:
        assert together(read, model, IDS[:5]) == alone(model, IDS[:5])
    assert not forked


@pytest.mark.parametrize("failing", ["first", "other"])
def test_an_error_ends_the_others_and_reading_can_go_on(
    forked: list[int], failing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(number: int) -> None:
        if number == 12 and (os.getpid() == HERE) == (failing == "first"):
            raise KeyboardInterrupt if failing == "first" else ValueError("no number")

    model = build()
    bits = alone(model, IDS[:3])
    meddle(monkeypatch, fail)
    with reader_of(model) as read:
        caches = model.make_caches(1)
        assert read(np.asarray([[IDS[0]]]), caches).tobytes() == bits[0]
        with pytest.raises(KeyboardInterrupt if failing == "first" else ValueError):
            read(np.asarray([[IDS[1]]]), caches)
        assert is_gone(forked[0])
        assert [read(np.asarray([[token]]), caches).tobytes() for token in IDS[1:3]] == bits[1:]
    assert len(forked) == 2


def test_a_late_process_is_waited_for(forked: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    def dawdle(number: int) -> None:
        if number == 5:
            time.sleep(0.05 * (os.getpid() != HERE))
        if number == 15:
            time.sleep(0.05 * (os.getpid() == HERE))

    model = build()
    bits = alone(model, IDS[:4])
    meddle(monkeypatch, dawdle)
    with reader_of(model) as read:
        assert together(read, model, IDS[:4]) == bits
    assert len(forked) == 1


def test_each_reads_on_a_core_of_its_own_and_only_reads_there(
    forked: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = os.sched_getaffinity(0)
    cores, seen = sorted(before)[:2], list[set[int]]()
    monkeypatch.setattr(os, "sched_setaffinity", lambda _process, cores: seen.append(set(cores)))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: set(cores))
    model = build()
    with reader_of(model, len(cores)) as read:
        together(read, model, IDS[:2])
    assert seen == ([{cores[0]}, set(cores)] * 2 if len(before) > 1 else [])
    assert len(forked) == len(cores) - 1


@pytest.mark.parametrize("at", ["idle", "meeting"])
def test_no_process_outlives_the_first(at: str) -> None:
    script = f"""
import os, time, numpy as np, test_joint as t
model, first = t.build(), os.getpid()
read, caches = t.reader_of(model).__enter__(), model.make_caches(1)
read(np.asarray([[1]]), caches)
def hang(number):
    time.sleep(60 * (os.getpid() == first))
patch = t.pytest.MonkeyPatch()
if {at == "meeting"}:
    t.meddle(patch, hang)
print("ready", flush=True)
read(np.asarray([[1]]), caches)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=Path(__file__).parent) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == b"ready\n"
        children = Path(f"/proc/{first.pid}/task/{first.pid}/children").read_text(encoding="ascii").split()
        assert len(children) == 1
        first.kill()
        assert select.select([first.stdout], [], [], 30)[0]  # its end is seen when all who could write have gone
        assert first.stdout.read() == b""


def test_a_copy_of_the_process_is_refused_and_leaves_the_others_alone(forked: list[int]) -> None:
    model = build()
    bits = alone(model, IDS[:3])
    with reader_of(model) as read:
        caches = model.make_caches(1)
        assert read(np.asarray([[IDS[0]]]), caches).tobytes() == bits[0]
        copy = os.fork()
        if not copy:
            status = 1
            try:
                with pytest.raises(RuntimeError, match="by the process that began it"):
                    read(np.asarray([[IDS[1]]]), caches)
                read.__exit__(None, None, None)
                status = 0
            finally:
                os._exit(status)
        assert os.waitpid(copy, 0)[1] == 0
        assert [read(np.asarray([[token]]), caches).tobytes() for token in IDS[1:3]] == bits[1:]
        left = os.fork()  # lives on with a copy of the socket
        if not left:
            time.sleep(60)
            os._exit(0)
    assert is_gone(forked[0])
    os.kill(left, signal.SIGKILL)
    os.waitpid(left, 0)


def test_nobody_is_forked_beside_a_thread_nor_for_a_small_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fork", lambda: pytest.fail("forked"))
    model = build()
    tokens = list(generate(model, [1], max_new_tokens=5, temperature=0))  # small
    monkeypatch.setattr(LanguageModel, "reader", reader_of)
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    try:
        assert not can_all_gather()
        assert list(generate(model, [1], max_new_tokens=5, temperature=0)) == tokens
    finally:
        done.set()
        thread.join()
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")  # writes are seen in any order
    assert not can_all_gather()


@pytest.mark.parametrize("place", ["mlp", "out_proj"])
def test_a_layer_of_another_kind_is_not_shared_out(forked: list[int], place: str) -> None:
    model = build()
    block = model.transformer.blocks[0]
    if place == "mlp":
        block.mlp = Sequential(block.mlp)
    else:
        vars(block.attention)["out_proj"] = type("Other", (Linear,), {})(16, 16)
    assert not is_known(model.transformer)
    with reader_of(model) as read:
        logits = np.frombuffer(together(read, model, IDS[:3])[-1], np.float32)
    np.testing.assert_allclose(logits, model(np.asarray([IDS[:3]])).data[0, -1], atol=1e-4)
    assert not forked
