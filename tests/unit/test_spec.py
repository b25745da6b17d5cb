import inspect
import re
from typing import Literal

import pytest

from draftwood.drafters.catalog import DRAFTERS, make_drafter
from draftwood.drafters.lookup import PromptLookup
from draftwood.drafters.none import NoDraft
from draftwood.drafters.spec import build, options_of, parse
from draftwood.errors import InvalidOption, InvalidSpec


class Thing:
    def __init__(
        self,
        *,
        size: int = 1,
        share: float | None = 0.5,
        mode: Literal["tree", "linear"] = "tree",
        loud: bool = False,
        name: str = "",
        parts: list[int] | None = None,
    ) -> None:
        self.given = (size, share, mode, loud, name)


def thing(spec: str) -> tuple[object, ...]:
    made: tuple[object, ...] = build(spec, {"thing": Thing, "other": Thing}).given
    return made


def test_a_bare_name_keeps_every_default():
    assert thing("thing") == (1, 0.5, "tree", False, "")


def test_options_get_the_types_of_the_annotations():
    spec = "thing:size=32,share=0.25,mode=linear,loud=yes,name=a b"
    assert thing(spec) == (32, 0.25, "linear", True, "a b")


def test_whole_numbers_pass_as_floats_and_none_where_allowed():
    assert thing("thing:share=4")[1] == 4.0
    assert thing("thing:share=none")[1] is None


def test_spaces_around_items_do_not_matter():
    assert thing(" thing: size = 3 , mode = tree ")[0] == 3


def test_parameters_of_other_types_are_no_options():
    assert "parts" not in options_of(Thing)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("thang", "no drafter is named 'thang'; did you mean 'thing'? choose from other, thing"),
        ("zzz", "no drafter is named 'zzz'; choose from other, thing"),
        ("thing:sizes=3", "has no option 'sizes'; did you mean 'size'? choose from loud, mode"),
        ("thing:size=2.5", "size=2.5 is not a whole number"),
        ("thing:share=much", "share=much is not a number or none"),
        ("thing:mode=bush", "mode=bush is not tree or linear"),
        ("thing:loud=maybe", "loud=maybe is not true or false"),
        ("thing:size", "'size' in spec 'thing:size' is no option; write key=value"),
        ("thing:size=", "is no option; write key=value"),
        ("thing:size=1,size=2", "option 'size' stands twice"),
        (":size=1", "has no name"),
    ],
)
def test_a_wrong_spec_is_named_with_the_remedy(spec, said):
    with pytest.raises(InvalidSpec) as error:
        thing(spec)
    assert said in str(error.value)


def test_parse_keeps_options_as_written():
    spec = parse("suffix:alpha=4,floor=0")
    assert spec.name == "suffix"
    assert spec.options == {"alpha": "4", "floor": "0"}


def test_the_catalog_makes_its_drafters():
    assert isinstance(make_drafter("none"), NoDraft)
    assert isinstance(make_drafter("lookup:max_ngram=2,match=latest"), PromptLookup)
    assert "suffix" in DRAFTERS


@pytest.mark.parametrize("name", DRAFTERS)
def test_every_factory_says_what_it_makes_and_explains_its_options(name):
    factory = DRAFTERS[name]
    text = inspect.getdoc(factory)
    summary = text.split("\n\n")[0]
    assert summary.endswith(".")
    assert "\n" not in summary
    assert [key for key in options_of(factory) if not re.search(rf"\b{key}\b", text)] == []


def test_a_drafters_own_limits_pass_through():
    with pytest.raises(InvalidOption, match="at least 1"):
        make_drafter("lookup:nodes=0")


def test_a_missing_option_is_named():
    def small(*, model: str, nodes: int = 8) -> tuple[str, int]:
        return model, nodes

    with pytest.raises(InvalidSpec, match="needs the option 'model'; write small:"):
        build("small:nodes=4", {"small": small})
    assert build("small:model=a", {"small": small}) == ("a", 8)
