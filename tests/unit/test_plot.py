import sys

import pytest

from draftwood.demo.plot import plot_demo
from draftwood.errors import InvalidOption, MissingExtra
from draftwood.replay.chart import check_drawable
from draftwood.replay.plot import plot_replay

REPLAY = [
    {"trace": trace, "drafter": drafter, "tokens_per_step": value}
    for trace, drafter, value in [
        ("sql", "suffix", 2.5),
        ("sql", "lookup", 1.25),
        ("chat", "suffix", 1.5),
    ]
]
DEMO = [
    {"drafter": "plain", "tokens_per_second": 80.0, "speedup": 1.0, "tokens_per_step": 1.0},
    {"drafter": "suffix", "tokens_per_second": 200.0, "speedup": 2.5, "tokens_per_step": 3.0},
]


def test_a_replay_plot_names_traces_drafters_and_values(tmp_path):
    plot_replay(REPLAY, tmp_path / "out.svg")
    drawn = (tmp_path / "out.svg").read_text()
    for text in ("sql", "chat", "suffix", "lookup", "2.50", "1.25", "1.50"):
        assert f">{text}<" in drawn


def test_a_demo_plot_names_sides_and_speed_ups(tmp_path):
    plot_demo(DEMO, tmp_path / "out.svg")
    drawn = (tmp_path / "out.svg").read_text()
    assert ">plain<" in drawn
    assert "2.50x, 3.00 tokens a step" in drawn


def test_the_same_rows_give_the_same_file(tmp_path):
    plot_demo(DEMO, tmp_path / "a.svg")
    plot_demo(DEMO, tmp_path / "b.svg")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_pixels_are_drawn_too(tmp_path):
    plot_replay(REPLAY, tmp_path / "out.png")
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", ["out.docx", "nowhere/out.svg"])
def test_a_file_that_cannot_be_drawn_is_refused(tmp_path, name):
    with pytest.raises(InvalidOption, match="cannot draw to"):
        check_drawable(tmp_path / name)
    with pytest.raises(InvalidOption, match="cannot draw to"):
        plot_demo(DEMO, tmp_path / name)


def test_the_check_of_a_path_leaves_no_file_and_changes_none(tmp_path):
    check_drawable(tmp_path / "new.svg")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "old.svg").write_text("kept")
    (tmp_path / "empty.png").touch()
    check_drawable(tmp_path / "old.svg")
    check_drawable(tmp_path / "empty.png")
    assert (tmp_path / "old.svg").read_text() == "kept"
    assert (tmp_path / "empty.png").exists()


def test_without_matplotlib_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtra, match=r"install draftwood\[plot\]"):
        check_drawable(tmp_path / "out.svg")
    with pytest.raises(MissingExtra, match=r"install draftwood\[plot\]"):
        plot_demo(DEMO, tmp_path / "out.svg")
