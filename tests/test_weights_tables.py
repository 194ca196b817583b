import re

import pytest

from tl.weights import tables

TABLES = {name: text.strip().split("\n") for name, text in vars(tables).items() if name.isupper()}
CHECKSUM = {"sha256": r"[0-9a-f]{8}|-", "older": r"[0-9a-f]{8}|-", "md5": r"[0-9a-f]{32}"}
CHECKSUM["checksum"] = r"[0-9a-f]{64}"
NUMBER = {"px": r"\d{3}", "crop": r"0\.\d+|1\.0", "top-1": r"\d\d\.\d+|-", "top-5": r"\d\d\.\d+|-"}


def columns(header):
    """Returns the names of a table's columns; `md5 without top` is two words more than one."""
    return header.removeprefix("# ").replace("md5 without top", "md5").split()


@pytest.mark.parametrize("name", TABLES)
def test_every_row_has_what_its_columns_say(name):
    header, *rows = TABLES[name]
    names = columns(header)
    for row in rows:
        values = row.split()
        assert len(values) == len(names), row
        for column, value in zip(names, values):
            if pattern := {**CHECKSUM, **NUMBER}.get(column):
                assert re.fullmatch(pattern, value), (column, row)


@pytest.mark.parametrize("name", TABLES)
def test_no_set_and_no_file_comes_twice(name):
    header, *rows = TABLES[name]
    values = list(zip(*(row.split() for row in rows)))
    for column, found in zip(columns(header), values):
        known = [value for value in found if value != "-"]
        if column in ("name", "model", *CHECKSUM):
            assert len(set(known)) == len(known), column


def test_the_fifth_highest_are_right_more_often_than_the_highest():
    for header, *rows in (table for table in TABLES.values() if "top-1" in table[0]):
        first = columns(header).index("top-1")
        for row in rows:
            if "-" not in row.split()[first : first + 2]:
                assert float(row.split()[first]) < float(row.split()[first + 1]), row
