"""The index orders in `labelmaps/`: whole ones fit their column; those known in part are of no other order."""

from __future__ import annotations

from pathlib import Path

import pytest

from k710.errors import LabelError
from k710.lists import orders
from k710.lists.labels import DIALECTS, class_names, k710_classes_of, label_key
from k710.lists.orders import known_orders, partial_orders
from k710.recipes import resource


def test_every_whole_order_is_there_with_its_source():
    whole = {(order.name, order.label_set): order for order in known_orders() if order.name in DIALECTS}
    assert whole.keys() == {(name, label_set) for name in DIALECTS for label_set in ("k400", "k600", "k700", "k710")}
    for order in whole.values():
        assert order.known_rows == len(class_names(order.label_set, order.name))
        assert order.source
    for label_set in ("k600", "k700", "k710"):
        assert k710_classes_of(label_set, "uniformerv2") == k710_classes_of(label_set, "videomaev2")
        assert whole["videomaev2", label_set].source.startswith("as uniformerv2")
    assert k710_classes_of("k400", "canonical") == k710_classes_of("k400", "videomaev2")


def test_what_is_known_of_other_orders_contradicts_every_whole_one():
    assert {name: len(order.names) for name, order in partial_orders().items()} == {"vjepa": 114, "slowfast": 2}
    for order in partial_orders().values():
        assert len(set(order.names.values())) == len(order.names)
        assert Path(resource(*order.file.split("/"))).is_file()
        for dialect in DIALECTS:
            names = [label_key(name) for name in class_names(order.label_set, dialect)]
            assert all(label_key(name) in names for name in order.names.values())
            assert not any(names[row] == label_key(name) for row, name in order.names.items())
    counts = {order.name: order.known_rows for order in known_orders() if order.name not in DIALECTS}
    assert counts == {name: len(order.names) for name, order in partial_orders().items()}


def test_a_line_of_the_table_that_is_none_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "orders.csv"
    path.write_text("order,label_set,known_rows,file,source\nmine,k400,all,k400.csv,me\n")
    monkeypatch.setattr(orders, "resource", lambda *parts: path)
    with pytest.raises(LabelError, match=r"orders\.csv: line 2: not order,label_set"):
        known_orders.__wrapped__()
