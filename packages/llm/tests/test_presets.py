"""Presets: their fields, and changes of them."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from axone.llm import PRESETS, LanguageModel, preset


@pytest.mark.parametrize(("steps", "warmup"), [(None, 200), (6000, 200), (100, 10), (5, 0)])
def test_a_shorter_training_warms_up_for_a_tenth_of_it(steps: int | None, warmup: int) -> None:
    assert preset("overnight").trainer_config(512, steps=steps).warmup == warmup


def test_a_given_warm_up_is_kept() -> None:
    assert preset("overnight").trainer_config(512, steps=100, warmup_steps=90).warmup == 90
    assert preset("overnight").trainer_config(512, warmup_steps=2000).warmup == 2000


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_gives_its_fields_to_the_configuration(name: str) -> None:
    plan = PRESETS[name]
    config = plan.trainer_config(plan.model["context_length"])
    assert {field: getattr(config, field) for field in plan.trainer} == plan.trainer


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_for_subwords_differs_in_its_fields_for_them(name: str) -> None:
    plan = PRESETS[name]
    config = plan.for_subwords().model_config(512)
    assert {field: getattr(config, field) for field in plan.subwords} == plan.subwords
    characters = plan.model_config(512)
    assert replace(config, **{field: getattr(characters, field) for field in plan.subwords}) == characters


def test_a_model_of_the_preset_llama_is_written_as_a_llama_or_a_qwen3(tmp_path: Path) -> None:
    config = preset("llama").model_config(65)
    for kind, qk_norm in (("llama", False), ("qwen3", True)):
        LanguageModel(replace(config, qk_norm=qk_norm)).save_pretrained(tmp_path / kind)
        content = json.loads((tmp_path / kind / "config.json").read_text(encoding="utf-8"))
        assert content["model_type"] == kind
