"""Every key that a solver or problem names has an entry, and entries are whole."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import sciprob
from sciprob.io.citations import ENTRIES, bibtex
from sciprob.problems.registry import available
from sciprob.solvers import SOLVERS


@pytest.mark.parametrize("name", sorted(SOLVERS))
def test_solvers_cite_known_works(name: str) -> None:
    assert SOLVERS[name].citations
    assert set(SOLVERS[name].citations) <= set(ENTRIES)


def test_problem_files_and_kinds_cite_known_works() -> None:
    keys = {key for file in available() for key in file.table.get("citations", ())}
    for path in (Path(sciprob.__file__).parent / "problems").glob("*.py"):
        for found in re.findall(r"citations=\(([^)]*)\)", path.read_text()):
            keys |= set(re.findall(r'"([^"]+)"', found))
    assert keys
    assert keys <= set(ENTRIES)


def test_entries_have_what_bibtex_needs() -> None:
    needed = {"article": "journal volume pages", "inproceedings": "booktitle", "book": "publisher", "misc": "publisher"}
    for key, (kind, fields) in ENTRIES.items():
        more = needed.get(kind, "").split() + ([] if key == "sciprob" else ["year"])
        assert {"author", "title", *more} <= set(fields), key
        for value in fields.values():
            assert value.count("{") == value.count("}"), key


def test_bibtex_lists_each_once_and_passes_entries_through() -> None:
    own = "@article{me, title = {Mine}}"
    text = bibtex(["stuart2010", "stuart2010", own, "nobody1900"])
    assert text.count("@article{stuart2010,") == 1
    assert text.startswith("@software{sciprob,")
    assert own in text
    assert "% no entry is known for `nobody1900`" in text
