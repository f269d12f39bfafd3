"""The drift check of the generated code notices what it is for."""

from __future__ import annotations

from tools.generate_proto import drifted


def test_equal_trees_have_not_drifted() -> None:
    assert drifted({"a_pb2.py": b"x"}, {"a_pb2.py": b"x"}) == []


def test_missing_leftover_and_changed_files_are_named() -> None:
    committed = {"changed_pb2.py": b"old", "leftover_pb2.py": b"x", "same_pb2.py": b"x"}
    fresh = {"changed_pb2.py": b"new", "missing_pb2.pyi": b"x", "same_pb2.py": b"x"}
    assert drifted(committed, fresh) == ["changed_pb2.py", "leftover_pb2.py", "missing_pb2.pyi"]
