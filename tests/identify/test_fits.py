"""Which list some clips are of: told by evidence, or not told."""

from __future__ import annotations

import pytest

from k710.identify.fits import CLIP, fits_of, verdict_of

LISTS = (("k400", "train"), ("k600", "train"), ("k700", "val"), ("k700_2020", "val"), ("k710", "val"))
A, B, OLD, NEW, ALL = (1 << bit for bit in range(5))
# Twins: 33,000 clips in both, and 2,000 and 1,000 in one alone; all of the older in a fifth list.
LISTED = {A: 100_000, A | B: 140_000, B: 250_000, OLD | NEW | ALL: 33_000, OLD | ALL: 2_000, NEW: 1_000, ALL: 36_000}


def verdict(found, unknown=0):
    total = sum(found.values()) + unknown
    return verdict_of(fits_of(LISTS, LISTED, found, total, CLIP), LISTS, LISTED, found)


@pytest.mark.parametrize(
    ("found", "best"),
    [
        ({OLD | NEW | ALL: 33_000, OLD | ALL: 2_000}, "k700"),  # the list itself
        ({OLD | NEW | ALL: 30_000, OLD | ALL: 1_700}, "k700"),  # what is left of it
        ({OLD | NEW | ALL: 33_000, NEW: 1_000}, "k700_2020"),
        ({OLD | NEW | ALL: 300, OLD | ALL: 20}, "k700"),
        ({OLD | NEW | ALL: 33_000, OLD | ALL: 2_000, ALL: 36_000}, "k710"),
        ({A: 90_000, A | B: 130_000}, "k400"),
        ({A | B: 120_000, B: 200_000}, "k600"),
        ({A: 50, A | B: 70}, "k400"),  # a small part of it
    ],
)
def test_a_list_that_is_told(found, best):
    assert verdict(found).best.list[0] == best


@pytest.mark.parametrize(
    ("found", "tied"),
    [
        ({OLD | NEW | ALL: 300}, {"k700", "k700_2020"}),  # 18 of 300 should be in the one alone; it is no fair draw
        ({A | B: 1_000}, {"k400", "k600"}),
        ({A: 4}, {"k400"}),
    ],
)
def test_a_tie_is_said(found, tied):
    found = verdict(found)
    assert found.best is None
    assert tied <= {fit.list[0] for fit in found.tied}
    assert all(" ".join(fit.list) in found.why for fit in found.tied) or "tells nothing" in found.why


def test_a_large_list_that_holds_another_is_not_it():
    found = verdict({A: 90_000, A | B: 140_000}, unknown=9_000_000)
    assert found.best is None
    assert "most are in none of the lists; the most, 2.5 %, are in k400 train" in found.why


def test_no_list():
    assert verdict({}, unknown=10).why == "none of them is in a known list"


def test_shares():
    (fit,) = fits_of((("k400", "val"),), {1: 200}, {1: 150}, 160, CLIP)
    assert (fit.missing, fit.share_of_list, fit.share_of_copy) == (50, 0.75, 0.9375)
    assert fit.likeness == pytest.approx(150 / 210)
