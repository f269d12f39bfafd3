"""Measurements that anyone can repeat; each module is a program: ``python -m benchmarks.engine``.

``python -m benchmarks`` runs those that compare Underseal with others and writes a report. Every
program checks what it measures and ends with code 1 when an answer was wrong; ``--json`` prints a
record: figures, arguments, and the machine that they were measured on.
"""
