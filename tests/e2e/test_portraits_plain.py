"""Real people, in the clear: what the default model can do before anything is encrypted.

The figures show that the model is a real one; 20 people are no accuracy claim.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tests.face_fixtures import PortraitSet
from underseal_client.faces import FaceEmbedder


def test_every_person_with_a_second_photo_ranks_first_among_all(portrait_set: PortraitSet) -> None:
    gallery, probes = portrait_set.gallery, portrait_set.probes
    assert (len(gallery), len(probes)) == (586, 20)
    scores = portrait_set.templates[probes] @ portrait_set.templates[gallery].T
    best = [portrait_set.people[gallery[index]] for index in scores.argmax(axis=1)]
    assert best == [portrait_set.people[index] for index in probes]


def test_scores_of_same_and_different_people_hardly_overlap(
    portrait_set: PortraitSet,
    embedder: FaceEmbedder,
    record_testsuite_property: Callable[[str, object], None],
) -> None:
    gallery, probes = portrait_set.gallery, portrait_set.probes
    scores = portrait_set.templates[probes] @ portrait_set.templates[gallery].T
    names = np.array(portrait_set.people)
    is_same = names[probes][:, None] == names[gallery][None, :]
    same, different = scores[is_same], scores[~is_same]
    threshold = embedder.model.threshold_default
    assert threshold is not None
    record_testsuite_property("lowest_same", round(float(same.min()), 4))
    record_testsuite_property("highest_different", round(float(different.max()), 4))
    assert (same > threshold).all()
    assert (different > threshold).mean() < 5e-4
    assert np.median(same) > 0.65
    # officials resemble each other: the mean is well above the 0 of random directions
    assert 0.05 < different.mean() < 0.2
    assert 0.07 < different.std() < 0.11


def test_two_crops_of_one_photo_score_higher_than_two_photos(portrait_set: PortraitSet) -> None:
    first = {portrait_set.people[index]: index for index in portrait_set.gallery}
    scores = {True: [], False: []}  # type: dict[bool, list[float]]
    for index in np.flatnonzero(portrait_set.numbers == 2):
        partner = first[portrait_set.people[index]]
        score = float(portrait_set.templates[index] @ portrait_set.templates[partner])
        scores[bool(portrait_set.recrops[index])].append(score)
    assert len(scores[True]) == 8
    assert min(scores[True]) > np.median(scores[False])
