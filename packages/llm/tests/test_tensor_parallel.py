"""Tensor-parallel decoding: the bits of one process for any number of ranks, and no process is left behind."""

import os
import platform
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from axone.autograd.extend import Array
from axone.llm import LanguageModel, LanguageModelConfig, TextGenerator, TokenDataset, generate
from axone.llm.generation.batch import DecodingBatch
from axone.llm.generation.decoder import Decoder
from axone.llm.generation.tensor_parallel import TensorParallelDecoder
from axone.llm.runtime import resources
from axone.llm.runtime.collectives import SharedAllGather, can_all_gather
from axone.nn import cache

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64", reason="elsewhere no process is forked"
)
Build = Callable[..., LanguageModel]
HERE = os.getpid()
IDS = np.random.default_rng(2).integers(0, 19, 40).tolist()


def is_gone(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    return False


def parallel_decoder(model: LanguageModel, workers: int) -> TensorParallelDecoder:
    """Return a decoder that forks at once."""
    ngrams = model.ngram_embedding
    return TensorParallelDecoder(
        model.transformer,
        model.input_weight,
        model.output_weight.data,
        model.make_caches(1),
        workers,
        ngrams=None if ngrams is None else ngrams.lookup([table.data for table in ngrams.tables]),
    )


def alone(model: LanguageModel, ids: list[int]) -> list[bytes]:
    """Return the bits of the logits after each token as one process computes them."""
    parallel = parallel_decoder(model, 1)
    return [parallel.decode([token], position).tobytes() for position, token in enumerate(ids)]


def together(decode: Decoder, model: LanguageModel, ids: list[int]) -> list[bytes]:
    caches = model.make_caches(1)
    return [decode(np.asarray([[token]]), caches).tobytes() for token in ids]


def before_gather(monkeypatch: pytest.MonkeyPatch, call: Callable[[int], None]) -> None:
    """Call a function before each all-gather, with its number."""
    gather, calls = SharedAllGather.gather, [0]

    def gather_later(self: SharedAllGather, vector: Array) -> Array:
        calls[0] += 1
        call(calls[0])
        return gather(self, vector)

    monkeypatch.setattr(SharedAllGather, "gather", gather_later)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bits_do_not_depend_on_the_number_of_ranks(forked: list[int], kind: str, dtype: Any, build: Build) -> None:
    model = build(kind, dtype)
    whole = model(np.asarray([IDS[:12]])).data[0]
    for workers in (2, 3):
        with model.decoder(workers=workers) as decode:
            logits = together(decode, model, IDS[:12])
        assert logits == alone(model, IDS[:12])
        bound = 5e-4 if dtype is np.float32 else 1e-11
        np.testing.assert_allclose(np.stack([np.frombuffer(row, dtype) for row in logits]), whole, atol=bound)
    heads = model.config.kv_heads
    assert len(forked) == sum(min(workers, heads) - 1 for workers in (2, 3))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bits_do_not_depend_on_how_many_positions_are_decoded_at_once(
    forked: list[int], kind: str, dtype: Any, build: Build
) -> None:
    model = build(kind, dtype)
    bits = alone(model, IDS[:12])
    for workers in (1, 2, 3):
        parallel = parallel_decoder(model, workers)
        for start, stop in ((0, 5), (5, 6), (6, 9), (7, 12)):  # the second decodes two positions again
            for position, row in enumerate(parallel.decode(IDS[start:stop], start), start):
                assert row.tobytes() == bits[position]
        parallel.close()
    assert len(forked) == sum(min(workers, model.config.kv_heads) - 1 for workers in (2, 3))


@pytest.mark.usefixtures("forked")
def test_bits_do_not_depend_on_the_number_of_ranks_at_the_width_of_gpt2() -> None:
    config = LanguageModelConfig.gpt2(vocab_size=19, context_length=64, num_layers=1, hidden_dim=64)
    model = LanguageModel(config, rng=np.random.default_rng(0)).eval()
    ids = np.random.default_rng(1).integers(0, 19, 64).tolist()
    bits = alone(model, ids)
    with model.decoder() as decode:
        assert together(decode, model, ids) == bits
        caches = model.make_caches(1)
        for start in range(0, 64, 8):
            logits = decode(np.asarray([ids[start : start + 8]]), caches, last_only=False)[0]
            assert [row.tobytes() for row in logits] == bits[start : start + 8]


def test_text_longer_than_the_context_is_the_same_with_and_without_processes(
    forked: list[int], kind: str, build: Build
) -> None:
    model = build(kind, np.float64)
    tokens = list(generate(model, IDS[:5], max_new_tokens=60, temperature=0))
    assert len(forked) == (model.config.kv_heads > 1)
    assert list(generate(model, IDS[:5], max_new_tokens=60, temperature=0, workers=1)) == tokens
    assert len(tokens) == 60
    assert len(forked) == (model.config.kv_heads > 1)


def test_single_completion_equals_the_stream(forked: list[int], dataset: TokenDataset) -> None:
    config = LanguageModelConfig(
        vocab_size=dataset.tokenizer.vocab_size, context_length=16, num_layers=2, num_heads=2, embed_dim=16
    )
    generator = TextGenerator(LanguageModel(config, rng=np.random.default_rng(0)).eval(), dataset.tokenizer)
    (completion,) = generator.complete(["the"], max_new_tokens=40, rngs=[np.random.default_rng(3)])
    assert completion.text == "".join(generator.stream("the", max_new_tokens=40, rng=np.random.default_rng(3)))
    assert len(forked) == 2


def test_forking_starts_when_the_batch_shrinks_to_one(forked: list[int], build: Build) -> None:
    model = build(dtype=np.float64)
    with DecodingBatch(model, [IDS[:3], IDS[3:6], IDS[6:9]]) as batch:
        batch.logits()
        batch.append(IDS[:3])
        for token in IDS[9:12]:
            batch.keep([1] if len(batch.sequences) > 1 else [0])  # reallocates the caches each time
            whole = model(np.asarray(batch.sequences)).data
            np.testing.assert_allclose(batch.logits(), whole[:, -1], atol=1e-11)
            batch.append([token])
    assert batch.sequences == [[*IDS[3:6], IDS[1], *IDS[9:12]]]
    assert len(forked) == 3


def test_processes_are_forked_again_when_the_caches_grow(
    forked: list[int], monkeypatch: pytest.MonkeyPatch, build: Build
) -> None:
    model = build("llama", context_length=5000)
    bits = alone(model, IDS[:12])
    monkeypatch.setattr(cache, "_FIRST_CAPACITY", 3)
    with model.decoder() as decode:
        assert together(decode, model, IDS[:12]) == bits
    assert len(forked) == 3  # 3, 6 and 12 positions


def test_processes_end_with_the_text(forked: list[int], build: Build) -> None:
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
    with pytest.raises(KeyError), model.decoder() as decode:
        raise KeyError(together(decode, model, [1]))
    assert len(forked) == 4


def test_one_worker_and_an_unentered_decoder_never_fork(forked: list[int], build: Build) -> None:
    model = build()
    assert len(list(generate(model, [1], max_new_tokens=5, workers=1))) == 5
    assert len(list(model.generate([1], max_new_tokens=5, workers=1))) == 5
    together(model.decoder(), model, IDS[:3])
    assert not forked


@pytest.mark.parametrize("at", ["between tokens", "all-gather"])
def test_rank_0_continues_alone_when_another_rank_is_killed(
    forked: list[int], at: str, monkeypatch: pytest.MonkeyPatch, build: Build
) -> None:
    model = build()
    bits = alone(model, IDS[:9])

    def kill(number: int) -> None:
        if os.getpid() == HERE and number == 30:
            os.kill(forked[0], signal.SIGKILL)

    if at == "all-gather":
        before_gather(monkeypatch, kill)
    with model.decoder() as decode:
        caches = model.make_caches(1)
        for position, token in enumerate(IDS[:9]):
            if at == "between tokens" and position == 4:
                os.kill(forked[0], signal.SIGKILL)
            assert decode(np.asarray([[token]]), caches).tobytes() == bits[position]
    assert len(forked) == 1


def test_process_that_may_not_fork_decodes_alone(
    forked: list[int], monkeypatch: pytest.MonkeyPatch, build: Build
) -> None:
    def refuse() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", refuse)
    model = build()
    with model.decoder() as decode:
        assert together(decode, model, IDS[:5]) == alone(model, IDS[:5])
    assert not forked


@pytest.mark.parametrize("failing", ["rank 0", "rank 1"])
def test_error_in_a_rank_ends_the_processes_and_decoding_can_continue(
    forked: list[int], failing: str, monkeypatch: pytest.MonkeyPatch, build: Build
) -> None:
    error: type[BaseException] = KeyboardInterrupt if failing == "rank 0" else ValueError

    def fail(number: int) -> None:
        if number == 12 and (os.getpid() == HERE) == (failing == "rank 0"):
            raise error("not a number")

    model = build()
    bits = alone(model, IDS[:3])
    before_gather(monkeypatch, fail)
    with model.decoder() as decode:
        caches = model.make_caches(1)
        assert decode(np.asarray([[IDS[0]]]), caches).tobytes() == bits[0]
        with pytest.raises(error):
            decode(np.asarray([[IDS[1]]]), caches)
        assert is_gone(forked[0])
        assert [decode(np.asarray([[token]]), caches).tobytes() for token in IDS[1:3]] == bits[1:]
    assert len(forked) == 2


def test_late_ranks_are_waited_for(forked: list[int], monkeypatch: pytest.MonkeyPatch, build: Build) -> None:
    def sleep(number: int) -> None:
        if number == 5:
            time.sleep(0.05 * (os.getpid() != HERE))
        if number == 15:
            time.sleep(0.05 * (os.getpid() == HERE))

    model = build()
    bits = alone(model, IDS[:4])
    before_gather(monkeypatch, sleep)
    with model.decoder() as decode:
        assert together(decode, model, IDS[:4]) == bits
    assert len(forked) == 1


def test_each_rank_is_pinned_to_a_core_only_while_it_decodes(
    forked: list[int], monkeypatch: pytest.MonkeyPatch, build: Build
) -> None:
    seen: list[set[int]] = []
    monkeypatch.setattr(os, "sched_setaffinity", lambda _process, cores: seen.append(set(cores)))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: {2, 5})
    model = build()
    with model.decoder() as decode:
        together(decode, model, IDS[:2])
    assert seen == [{2}, {2, 5}] * 2
    assert len(forked) == 1


@pytest.mark.parametrize("place", ["pin", "all-gather", "restore"])
def test_interrupt_leaves_the_process_on_all_its_cores(
    forked: list[int], place: str, monkeypatch: pytest.MonkeyPatch, build: Build
) -> None:
    """A KeyboardInterrupt may arrive after the first core is set and before the others are set again."""
    present: list[set[int]] = [{2, 5}]
    interrupts = [place]

    def interrupt(at: str) -> None:
        if interrupts == [at] and os.getpid() == HERE:
            interrupts.clear()
            raise KeyboardInterrupt

    def set_affinity(_thread: int, cores: Any) -> None:
        if set(cores) == {2, 5}:
            interrupt("restore")
        present.append(set(cores))
        if set(cores) == {2}:
            interrupt("pin")

    monkeypatch.setattr(os, "sched_setaffinity", set_affinity)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _thread: present[-1])
    before_gather(monkeypatch, lambda number: interrupt("all-gather") if number == 3 else None)
    model = build()
    with pytest.raises(KeyboardInterrupt), model.decoder() as decode:
        together(decode, model, IDS[:2])
    assert present[-1] == {2, 5}
    assert len(forked) <= 1


@pytest.mark.parametrize("at", ["between tokens", "all-gather"])
def test_no_process_outlives_rank_0(at: str) -> None:
    script = f"""
import os, time, numpy as np, pytest
from conftest import build_model
from axone.llm.runtime import resources
from test_tensor_parallel import before_gather
resources.SMALL_MODEL = 0
model, first = build_model(), os.getpid()
decode, caches = model.decoder(workers=2).__enter__(), model.make_caches(1)
decode(np.asarray([[1]]), caches)
if {at == "all-gather"}:
    before_gather(pytest.MonkeyPatch(), lambda number: time.sleep(60 * (os.getpid() == first)))
print("ready", flush=True)
decode(np.asarray([[1]]), caches)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=Path(__file__).parent) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == b"ready\n"
        children = Path(f"/proc/{first.pid}/task/{first.pid}/children").read_text(encoding="ascii").split()
        assert len(children) == 1
        first.kill()
        assert select.select([first.stdout], [], [], 30)[0]  # it ends when every process that could write has ended
        assert first.stdout.read() == b""


def test_forked_copy_of_the_process_is_refused_and_leaves_the_ranks_alone(forked: list[int], build: Build) -> None:
    model = build()
    bits = alone(model, IDS[:3])
    with model.decoder() as decode:
        caches = model.make_caches(1)
        assert decode(np.asarray([[IDS[0]]]), caches).tobytes() == bits[0]
        copy = os.fork()
        if not copy:
            status = 1
            try:
                with pytest.raises(RuntimeError, match="which alone can continue this text"):
                    decode(np.asarray([[IDS[1]]]), caches)
                decode.__exit__(None, None, None)
                status = 0
            finally:
                os._exit(status)
        assert os.waitpid(copy, 0)[1] == 0
        assert [decode(np.asarray([[token]]), caches).tobytes() for token in IDS[1:3]] == bits[1:]
        left = os.fork()  # holds a copy of the socket
        if not left:
            time.sleep(60)
            os._exit(0)
    assert is_gone(forked[0])
    os.kill(left, signal.SIGKILL)
    os.waitpid(left, 0)


def test_no_process_is_forked_beside_a_thread_nor_for_a_small_model(
    monkeypatch: pytest.MonkeyPatch, build: Build
) -> None:
    monkeypatch.setattr(os, "fork", lambda: pytest.fail("forked"))
    monkeypatch.setattr(resources, "available_cores", lambda: 2)
    model = build(dtype=np.float64)
    tokens = list(generate(model, [1], max_new_tokens=5, temperature=0))  # small
    monkeypatch.setattr(resources, "SMALL_MODEL", 0)
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    try:
        assert not can_all_gather()
        assert list(generate(model, [1], max_new_tokens=5, temperature=0)) == tokens
    finally:
        done.set()
        thread.join()


def test_model_that_cannot_be_sharded_is_decoded_by_one_process(forked: list[int], build: Build) -> None:
    model = build()
    model.transformer.blocks[0].mlp = lambda x: x * 0.5
    with model.decoder() as decode:
        logits = np.frombuffer(together(decode, model, IDS[:3])[-1], np.float32)
    np.testing.assert_allclose(logits, model(np.asarray([IDS[:3]])).data[0, -1], atol=5e-4)
    assert not forked
