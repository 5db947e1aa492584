"""A user's program with axone-llm installed alone: `mypy --strict` reads the types from the wheel."""

from collections.abc import Iterator
from typing import assert_type

from axone.llm import LanguageModel, LanguageModelConfig, TextGenerator, TokenDataset, Trainer, TrainerConfig, generate
from axone.tokenizer import CharTokenizer

text = "she sells sea shells by the sea shore. " * 20
tokenizer = CharTokenizer.train(text)
shape = LanguageModelConfig(vocab_size=tokenizer.vocab_size, context_length=8, num_layers=1, num_heads=2, embed_dim=8)
model = LanguageModel(shape)
assert_type(model.config, LanguageModelConfig)
assert_type(model.num_parameters(), int)

train, validation = TokenDataset.from_text(text, tokenizer).split()
end = Trainer(model, train, validation, TrainerConfig(steps=3, batch_size=4, context_length=8)).fit()
assert_type(end.validation_loss, float | None)

assert_type(generate(model, [0], max_new_tokens=3), Iterator[int])
assert_type(TextGenerator(model, tokenizer).stream("she", max_new_tokens=3), Iterator[str])
if len(list(generate(model, [0], max_new_tokens=3))) != 3:
    raise SystemExit("generation must yield as many tokens as it was asked for")
