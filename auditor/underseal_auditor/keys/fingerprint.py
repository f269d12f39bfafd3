"""Key fingerprints as words, to be read aloud and compared over the telephone.

One word per byte from the even-numbered half of the PGP word list (Juola and Zimmermann, 1996),
whose 256 two-syllable words were chosen to sound different.
"""

from __future__ import annotations

from typing import Final

from underseal_core.errors import InvalidInput

WORDS: Final = tuple(
    """
    aardvark absurd accrue acme adrift adult afflict ahead aimless Algol allow alone ammo ancient
    apple artist assume Athens atlas Aztec baboon backfield backward banjo beaming bedlamp beehive
    beeswax befriend Belfast berserk billiard bison blackjack blockade blowtorch bluebird bombast
    bookshelf brackish breadline breakup brickyard briefcase Burbank button buzzard cement chairlift
    chatter checkup chisel choking chopper Christmas clamshell classic classroom cleanup clockwork
    cobra commence concert cowbell crackdown cranky crowfoot crucial crumpled crusade cubic
    dashboard deadbolt deckhand dogsled dragnet drainage dreadful drifter dropper drumbeat drunken
    Dupont dwelling eating edict egghead eightball endorse endow enlist erase escape exceed eyeglass
    eyetooth facial fallout flagpole flatfoot flytrap fracture framework freedom frighten gazelle
    Geiger glitter glucose goggles goldfish gremlin guidance hamlet highchair hockey indoors indulge
    inverse involve island jawbone keyboard kickoff kiwi klaxon locale lockup merit minnow miser
    Mohawk mural music necklace Neptune newborn nightbird Oakland obtuse offload optic orca payday
    peachy pheasant physique playhouse Pluto preclude prefer preshrunk printer prowler pupil puppy
    python quadrant quiver quota ragtime ratchet rebirth reform regain reindeer rematch repay
    retouch revenge reward rhythm ribcage ringbolt robust rocker ruffled sailboat sawdust scallion
    scenic scorecard Scotland seabird select sentence shadow shamrock showgirl skullcap skydive
    slingshot slowdown snapline snapshot snowcap snowslide solo southward soybean spaniel spearhead
    spellbind spheroid spigot spindle spyglass stagehand stagnate stairway standard stapler
    steamship sterling stockman stopwatch stormy sugar surmount suspense sweatband swelter tactics
    talon tapeworm tempest tiger tissue tonic topmost tracker transit trauma treadmill Trojan
    trouble tumor tunnel tycoon uncut unearth unwind uproot upset upshot vapor village virus Vulcan
    waffle wallet watchword wayside willow woodlark Zulu
    """.split()
)
FINGERPRINT_BYTES: Final = 16
"""128 bits: finding another key with the same words is out of reach."""


def fingerprint(epoch: str) -> str:
    """Return the first 16 bytes of a key epoch's id (64 hexadecimal digits) as words.

    Raises
    ------
    InvalidInput
        Not a key epoch's id.
    """
    try:
        digest = bytes.fromhex(epoch)
    except ValueError:
        raise InvalidInput("not a key epoch's id") from None
    if len(digest) != 32:
        raise InvalidInput("not a key epoch's id")
    return " ".join(WORDS[byte] for byte in digest[:FINGERPRINT_BYTES])
