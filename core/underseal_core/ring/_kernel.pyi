from typing import TypeAlias

import numpy as np
import numpy.typing as npt

_Residues: TypeAlias = npt.NDArray[np.uint32]

class Basis:
    def __init__(self, degree: int, primes: list[int]) -> None: ...
    def transform(self, values: _Residues, invert: bool, out: _Residues) -> None: ...
    def elementwise(
        self, operation: int, left: _Residues, right: _Residues, out: _Residues
    ) -> None: ...
    def below_primes(self, values: _Residues) -> bool: ...
    def scale_key(self, key: _Residues, out: _Residues) -> None: ...

class Power:
    def __init__(self, basis: Basis, level: int, power: int) -> None: ...

class Expansion:
    def __init__(self, basis: Basis, keys: list[_Residues]) -> None: ...
    def add_rows(
        self, nodes: list[_Residues], powers: list[Power], index: int, begin: int, tiles: _Residues
    ) -> None: ...
    def prepare(
        self,
        node: _Residues,
        index: int,
        begin: int,
        tiles: _Residues,
        sums: _Residues,
    ) -> None: ...
    def descend(
        self, node: _Residues, index: int, begin: int, end: int, out: _Residues
    ) -> None: ...

def switch_key(basis: Basis, ciphertext: _Residues, key: _Residues, out: _Residues) -> None: ...
def rescale(basis: Basis, ciphertext: _Residues, out: _Residues) -> None: ...
def place(
    basis: Basis,
    columns: _Residues,
    first: int,
    power: Power,
    tiles: _Residues,
    begin: int,
    end: int,
) -> None: ...
def score(
    basis: Basis,
    probes: list[_Residues],
    blocks: list[_Residues],
    out: _Residues,
    begin: int,
    end: int,
) -> None: ...
def pack(primes: list[int], values: _Residues, out: npt.NDArray[np.uint8]) -> bool: ...
def unpack(primes: list[int], stream: npt.NDArray[np.uint8], out: _Residues) -> bool: ...
