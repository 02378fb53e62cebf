"""The faster search through a page finds what docutils finds, in the same order."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from docutils import nodes
from docutils.utils import new_document
from sphinx.util.nodes import NodeMatcher

PATH = Path(__file__).resolve().parent.parent / "book" / "_ext" / "light_site.py"
SPEC = importlib.util.spec_from_file_location("light_site", PATH)
light_site = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(light_site)


def page(seed: int) -> nodes.document:
    """A random tree of 200 nodes."""
    rng = np.random.default_rng(seed)
    inner: list[nodes.Element] = [new_document("page")]
    for number in range(200):
        kind = (nodes.section, nodes.paragraph, nodes.emphasis, nodes.Text)[rng.integers(4)]
        node = nodes.Text(f"word {number}") if kind is nodes.Text else kind(ids=[f"n{number}"])
        inner[rng.integers(len(inner))].append(node)
        if kind is not nodes.Text:
            inner.append(node)
    return inner[0]


@pytest.mark.parametrize("condition", [None, nodes.Text, nodes.paragraph, NodeMatcher(nodes.section), lambda node: len(node.children) > 1])
@pytest.mark.parametrize("options", [{}, {"include_self": False}, {"descend": False}, {"siblings": True}, {"descend": False, "ascend": True}])
def test_it_finds_what_docutils_finds(condition, options):
    for seed in range(5):
        tree = page(seed)
        starts = [tree, *tree.children[:2]]
        assert [list(light_site.findall(start, condition, **options)) for start in starts] == [
            list(light_site.findall_of_docutils(start, condition, **options)) for start in starts
        ]
        assert len(list(light_site.findall(tree))) == 201
