"""What a call may say, and how it is told what it may not."""

import inspect
from typing import get_type_hints

import numpy as np
import pytest

import draftwood as dw
from draftwood.errors import InvalidOption
from draftwood.language_model.option_checks import cost_of
from draftwood.language_model.options import BatchOptions, Options, Settings
from draftwood.language_model.prompts import PromptEncoder
from draftwood.testing import ByteTokenizer

WRONG = [
    ("max_tokens", 1.5, "max_tokens is 1.5; give a whole number of 1 or more"),
    ("max_time", "soon", "give a number"),
    ("max_time", -0.5, "give seconds"),
    ("max_time", True, "give a number"),
    ("max_tokens", True, "max_tokens is True"),
    ("max_tokens", 0, "max_tokens is 0"),
    ("max_tokens", "9", "max_tokens is '9'"),
    ("temperature", "hot", "temperature is 'hot'; give a number"),
    ("temperature", float("nan"), "temperature is nan"),
    ("temperature", float("inf"), "temperature is inf"),
    ("temperature", -1, "temperature is -1"),
    ("temperature", 10**400, "temperature is 1000.*; give a number"),
    ("cost", -(10**400), "cost is -1000"),
    ("temperature", True, "temperature is True"),
    ("top_k", 2.0, "top_k is 2.0"),
    ("top_k", -1, "top_k is -1"),
    ("top_p", 2, "top_p is 2"),
    ("top_p", [0.5], r"top_p is \[0.5\]"),
    ("min_p", float("nan"), "min_p is nan"),
    ("repetition_penalty", 0, "repetition_penalty is 0"),
    ("sampling", {"temperature": 1}, "sampling is .*; give a Sampling"),
    ("seed", -1, "seed is -1; give a whole number from 0 to"),
    ("seed", 2**64, "seed is 18446744073709551616"),
    ("n", 0, "n is 0; give a whole number of 1 or more"),
    ("n", -2, "n is -2"),
    ("n", True, "n is True"),
    ("stop", 5, "stop is 5; give a string or a list of strings"),
    ("stop", ["a", 5], "stop is"),
    ("stop", "", "a stop string is empty"),
    ("stop_token_ids", [1.5], "an entry of stop_token_ids is 1.5"),
    ("stop_token_ids", [-1], "an entry of stop_token_ids is -1"),
    ("stop_token_ids", "12", "stop_token_ids is '12'; give a list of token ids"),
    ("logprobs", -1, "logprobs is -1"),
    ("logprobs", True, "logprobs is True"),
    ("logit_bias", [1], r"logit_bias is \[1\]; give a dict"),
    ("logit_bias", {"a": 1}, "a token id of logit_bias is 'a'"),
    ("logit_bias", {1: "a"}, r"logit_bias\[1\] is 'a'"),
    ("logit_bias", {1: float("nan")}, r"logit_bias\[1\] is nan"),
    ("logits_processors", [3], "an entry of logits_processors is 3; give something that can be"),
    ("logits_processors", "abc", "logits_processors is 'abc'"),
    ("drafter", 3, "drafter is 3; give a spec such as 'recall'"),
    ("cost", "cheap", "cost is 'cheap'; use 'auto', 'none', or 0 or more"),
    ("cost", -0.5, "cost is -0.5"),
    ("nodes", -1, "nodes is -1"),
    ("nodes", 2.5, "nodes is 2.5"),
    ("prediction", 7, "prediction is 7; give text, token ids, or a list of such"),
    ("namespace", None, "namespace is None; give text"),
    ("chat", "yes", "chat is 'yes'; give True, False or None"),
    ("tools", "search", "tools is 'search'; give a list of tools"),
    ("chat_template_kwargs", [], r"chat_template_kwargs is \[\]; give a dict"),
    ("metadata", "a", "metadata is 'a'; give a dict"),
    ("on_step", 3, "on_step is 3; give something that can be called"),
    ("max_batch", 0, "max_batch is 0"),
    ("max_batch", 1.0, "max_batch is 1.0"),
    ("errors", "ignore", "errors is 'ignore'; use 'raise' or 'return'"),
    ("progress", 1, "progress is 1; give True or False"),
]


@pytest.mark.parametrize(("name", "value", "said"), WRONG)
def test_a_wrong_value_is_refused_in_one_sentence(name, value, said):
    with pytest.raises(InvalidOption, match=said) as refused:
        Settings.of({name: value})
    assert "\n" not in str(refused.value)


def test_every_option_is_refused_some_value():
    assert {name for name, *_ in WRONG} == Settings.of({}).__dataclass_fields__.keys() - {"given"}


def test_numpys_numbers_are_taken_as_pythons():
    settings = Settings.of(
        {
            "max_tokens": np.int64(3),
            "temperature": np.float32(0.5),
            "seed": np.uint64(2**63),
            "stop_token_ids": np.array([4, 5]),
            "logit_bias": {np.int32(7): np.float64(-1.5)},
        }
    )
    assert (settings.max_tokens, type(settings.max_tokens)) == (3, int)
    assert (settings.temperature, type(settings.temperature)) == (0.5, float)
    assert settings.seed == 2**63
    assert settings.stop_token_ids == (4, 5)
    assert settings.logit_bias == {7: -1.5}


def test_what_may_be_left_out_may_be_none():
    names = ["max_tokens", "temperature", "top_k", "seed", "n", "logprobs", "drafter", "metadata"]
    settings = Settings.of(dict.fromkeys(names))
    assert all(getattr(settings, name) is None for name in names)
    assert settings.given == frozenset(names)


def test_a_bare_stop_string_is_one_string():
    assert Settings.of({"stop": "END"}).stops == ("END",)
    assert Settings.of({"stop": ["a", "bc"]}).stops == ("a", "bc")
    assert Settings.of({}).stops == ()


def test_one_callable_is_one_logits_processor():
    assert Settings.of({"logits_processors": max}).logits_processors == (max,)


def test_a_misspelled_option_suggests_the_nearest():
    with pytest.raises(InvalidOption, match=r"named 'max_token'; did you mean 'max_tokens'\?"):
        Settings.of({"max_token": 3})
    with pytest.raises(InvalidOption, match=r"did you mean 'repetition_penalty'\?"):
        Settings.of({"repeat_penalty": 3})


def test_a_stream_takes_no_options_of_batches():
    with pytest.raises(InvalidOption, match="no option is named 'n'"):
        Settings.of({"n": 2}, several=False)


def test_sampling_and_its_numbers_exclude_each_other():
    with pytest.raises(InvalidOption, match="sampling and top_p are both given"):
        Settings.of({"sampling": dw.Sampling(), "top_p": 0.5})


@pytest.mark.parametrize(
    ("written", "means"), [("auto", "auto"), ("none", None), (None, None), (0, 0.0), (0.01, 0.01)]
)
def test_costs_as_they_are_written(written, means):
    assert cost_of("cost", written) == means


@pytest.mark.parametrize(
    ("method", "options", "more"),
    [
        ("generate", BatchOptions, {"n"}),
        ("agenerate", BatchOptions, {"n"}),
        ("stream", Options, set()),
        ("astream", Options, set()),
    ],
)
def test_options_are_visible_with_types_and_defaults(method, options, more):
    parameters = inspect.signature(getattr(dw.LanguageModel, method)).parameters
    names = parameters.keys() - {"self", "prompt"}
    assert names == get_type_hints(options).keys() | more
    assert all(parameters[name].kind is inspect.Parameter.KEYWORD_ONLY for name in names)
    assert parameters["max_tokens"].default == 256
    assert parameters["temperature"].annotation == "float | None"
    shown = str(inspect.signature(getattr(dw.LanguageModel, method)))
    assert "stop: str | Sequence[str] = ()" in shown


def test_options_and_settings_name_the_same_things():
    fields = set(Settings.__dataclass_fields__) - {"given", "n"}
    assert fields == BatchOptions.__optional_keys__
    assert all(f"{name}" in Options.__doc__ + BatchOptions.__doc__ for name in fields)


@pytest.mark.parametrize("prompts", [["a", "b"], [[1, 2], [3]]])
def test_several_prompts_where_one_is_taken_are_named(prompts):
    with pytest.raises(InvalidOption, match=r"2 prompts are given where one is taken.*generate"):
        PromptEncoder(ByteTokenizer(), 300).encode(prompts)
