"""What the server keeps: a catalogue, the ciphertexts as they were sent, and the folded blocks.

    catalogue.sqlite             galleries, units, templates, sealed labels, request ids
    units/<gallery>/<token>.unit the ciphertexts of one unit, byte for byte
    blocks/<gallery>/<n>.tiles   a checkpoint of one block: the sum of its units

A unit is durable once its file is synced and its row is committed; only then it is answered.
Blocks are derived from the units and every checkpoint names the units in it, so after a crash a
block is brought up to date by folding in or out what differs. Everything here is synchronous;
``underseal_server.engine`` decides when it runs.
"""
