"""What the server keeps: a catalogue, and its galleries' units and blocks.

    catalogue.sqlite                        galleries, units, templates, sealed labels, request ids
    units/<gallery>/<epoch>/<token>.unit    the ciphertexts of one unit, byte for byte
    blocks/<gallery>/<epoch>/<n>.tiles      a checkpoint of one block: the sum of its units

A unit is durable once its file is synced and its row is committed; only then it is answered.
Files of units and blocks are those of ``underseal_core.gallery``. Everything here is synchronous;
``underseal_server.engine`` decides when it runs.
"""
