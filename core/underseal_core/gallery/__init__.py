"""A gallery's units and blocks on disk: what the server and every guardian's replica share.

    units/<name>.unit   the ciphertexts of one unit, as they were enrolled or last redacted
    blocks/<n>.tiles    a checkpoint of one block: the sum of its units

Blocks are derived from units and every checkpoint names the units in it, so after a crash a block
is brought up to date by folding in or out what differs. Everything here is synchronous and works
on public data: nothing opens or makes a ciphertext.
"""
