"""Prompt cache: keys and values of one sequence, kept from one generation to the next.

A second generation whose prompt begins like the tokens that the cache holds reads only the rest: the turns of a chat, or
questions about one long text.
"""

from __future__ import annotations

from collections.abc import Sequence

from axone.llm.generation.protocol import GenerativeModel


class PromptCache:
    """The KV caches of one sequence, and the tokens that they hold.

    Pass it to one generation after the other, of the same model with the same weights, and never to two at a time.

    Parameters
    ----------
    model : LanguageModel

    Attributes
    ----------
    caches : list of KVCache
        One for each block.
    ids : list of int
        The tokens whose keys and values the caches hold.

    Examples
    --------
    >>> from axone.llm import LanguageModel, LanguageModelConfig, PromptCache, generate
    >>> config = LanguageModelConfig(
    ...     vocab_size=65, context_length=64, num_layers=1, num_heads=2, embed_dim=16
    ... )
    >>> model = LanguageModel(config).eval()
    >>> cache = PromptCache(model)
    >>> new = list(generate(model, [1, 2, 3], max_new_tokens=4, prompt_cache=cache))
    >>> cache.common_prefix([1, 2, 3, *new, 5])  # the last new token was not read
    6
    """

    def __init__(self, model: GenerativeModel) -> None:
        self.caches = model.make_caches(1, model.config.context_length)
        self.ids: list[int] = []

    def common_prefix(self, prompt_ids: Sequence[int]) -> int:
        """Return how many tokens of a prompt need not be read again: never its last one, whose logits are needed.

        Parameters
        ----------
        prompt_ids : sequence of int

        Returns
        -------
        int
        """
        most = min(len(self.ids), len(prompt_ids) - 1)
        return next((at for at in range(most) if self.ids[at] != prompt_ids[at]), max(most, 0))

    def hold(self, ids: Sequence[int]) -> None:
        """State which tokens the caches hold, the first ones of those that they have read."""
        self.ids = list(ids)
        for cache in self.caches:
            cache.length = len(self.ids)
