"""Conditions that a real Milvus server reads, against SQLite."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np

from cfcd.catalog import Item
from cfcd.encoding.shards import FileStamp
from cfcd.gallery.milvus.address import MilvusAddress
from cfcd.gallery.milvus.store import MilvusStore
from cfcd.gallery.truth.store import Store
from cfcd.gallery.where import parse_where
from cfcd.gallery.where_sql import database_of, matching_rows

CONDITIONS = """
x = 5 | x != 5 | x in (5, 7.5, 'a') | x not in (5, 7) | x = '5' | x != '5' | x = '05' | x >= 5 | x < 7.5
x > '6' | x = true | x != true | x = false | x not in (true, 'a', 3) | x in (0, true) | x is null
x is not null | x != 'a"\\' | x < 'b' | x >= 'é' | not (x = 5 or y = 1) | x = 5 and y = 1
y != 1 and (x is null or x > 3) | x like 'a%' | X = 5 | label = 'l"1' | label != 'l"1' | label is null
is_query = true | is_query != 'yes' | x_1 > 1.5 | x_1 is null | id in ('3', '4') | x = 9007199254740993
x = 1e300 | x <= -1 | "sp ace.é" = 1 | "q""uote" = 1 | x not in ('a', 'b')
"""


def test_the_server_reads_conditions_as_sqlite_does(place: str) -> None:
    values: list[object] = [
        5,
        5.0,
        7.5,
        "5",
        "05",
        " 5 ",
        "a",
        "",
        None,
        True,
        False,
        0,
        1,
        "true",
        "No",
        -1,
        -2.5,
    ]
    values += [
        'a"\\',
        "é",
        "zz",
        [5],
        {"a": 5},
        9007199254740993,
        1e300,
        "1e300",
        float("inf"),
        "7.5",
        "a\nb",
    ]
    meta = {"dim": "4", "identity": "", "model": "", "long_side": "null", "scales": "[1.0]"}
    address = MilvusAddress.parse(place)
    MilvusStore.create(address, meta)
    store = MilvusStore(address)
    with store.changing():
        for number, value in enumerate(values):
            extra = {"x": value, "y": number % 3, "sp ace.é": number % 2, 'q"uote': number % 2}
            if value is None:
                del extra["x"]
            item = Item(
                str(number),
                Path(f"/p/{number}"),
                label=[None, 'l"1', "l2"][number % 3],
                is_query=[None, True, False][number % 3],
                box=(number / 4, 0, 9, 9) if number % 2 else None,
                extra=extra,
            )
            store.insert("s", str(number), item, FileStamp(1, 1, b""), np.eye(4)[number % 4])
    rows, there = database_of(cast(Store, store)), 0
    conditions = [text.strip() for text in CONDITIONS.strip().replace("\n", "|").split("|")]
    for text in conditions:
        condition = parse_where(text)
        chosen = store.look_up(condition, None, None)
        there += chosen is not None
        if chosen is not None:
            assert chosen.numbers.tolist() == matching_rows(rows, condition).tolist(), text
    assert there == len(conditions) - 3  # like, X in another case, and the quote are left to SQLite
    chosen = store.look_up(None, ["3", "none"], ["l2", "l3", ""])
    assert chosen is not None
    assert chosen.numbers.tolist() == []
    assert chosen.unknown == ("none", "l3", "")
    store.close()
