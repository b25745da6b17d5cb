"""Drafts and figures as HTML: escaped, nested as the tree is, readable on any background."""

from html.parser import HTMLParser

from draftwood.draft import Draft
from draftwood.markup import figures_html

#        context
#        /     \
#       3       8
#      / \
#     4   5
TREE = Draft.tree([3, 8, 4, 5], [-1, -1, 0, 0], confidence=[0.9, 0.1, 0.5, 0.4])


class Nesting(HTMLParser):
    """The text of each item with its depth; fails where tags are not closed in order."""

    def __init__(self, shown: str) -> None:
        super().__init__()
        self.open, self.items = [], []
        self.feed(shown)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "code":
            self.items.append((data, self.open.count("li")))


def test_a_drafts_html_is_nested_as_its_tree():
    assert Nesting(TREE._repr_html_()).items == [("3", 1), ("4", 2), ("5", 2), ("8", 1)]
    assert Nesting(Draft.empty()._repr_html_()).items == []


def test_a_deep_draft_is_shown_without_recursion():
    deep = Nesting(Draft.chain(range(3000))._repr_html_())
    assert deep.items[-1] == ("2999", 3000)


def test_labels_are_escaped():
    shown = TREE.html(lambda token: f"<script>{token}&")
    assert "<script>" not in shown
    assert Nesting(shown).items[0] == ("<script>3&", 1)


def test_figures_are_escaped():
    shown = figures_html({"<b>": "1 < 2"}, [0.5], "<i>")
    assert "<b>" not in shown
    assert "<i>" not in shown
    assert "1 &lt; 2" in shown


def test_a_draft_says_its_size_in_short():
    assert repr(TREE) == "Draft(4 nodes, 2 deep, begins 3 4)"
    assert repr(Draft.chain([7])) == "Draft(1 node, 1 deep, begins 7)"
    assert repr(Draft.empty()) == "Draft(0 nodes)"
