"""From many short stretches of voice to the speakers: weighted centroid-linkage clustering, in numpy.

Stretches are unit vectors. The two nearest clusters are joined until the nearest centroids are further
apart than `THRESHOLD`; a cluster with too little speech is no speaker of its own. More than `LIMIT`
stretches are first joined within blocks of them, so memory grows with the recording's length and not
with its square.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import combinations, permutations

import numpy as np

THRESHOLD = 0.82
"""Euclidean distance of centroids of unit vectors up to which they are one speaker's."""
TIGHT = 0.5
"""The same within a block of a long recording, where what is joined stays joined."""
LIMIT = 1500
"""Stretches that are clustered at once; memory grows with its square."""
MINIMUM, SHARE = 6, 0.05
"""Stretches that a speaker has at least: so many, or this share of all where there are few."""
MOST = 32
"""Speakers told apart where the request sets no bound."""

Progress = Callable[[], None]


class Merging:
    """Clusters that are joined two by two, the nearest first."""

    def __init__(self, points: np.ndarray, weights: np.ndarray) -> None:
        self.centroids, self.weights = points.astype(np.float32), weights.astype(np.float32)
        self.distances = squared_distances(self.centroids, self.centroids)
        np.fill_diagonal(self.distances, np.inf)
        self.nearest = self.distances.argmin(axis=1)
        self.least = self.distances.min(axis=1)

    def join(self) -> tuple[int, int, float]:
        """Join the two nearest clusters; the second one of the pair is gone, its distance told."""
        i = int(self.least.argmin())
        j, distance = int(self.nearest[i]), float(self.least[i])
        i, j = min(i, j), max(i, j)
        total = self.weights[i] + self.weights[j]
        self.centroids[i] = (
            self.centroids[i] * self.weights[i] + self.centroids[j] * self.weights[j]
        ) / total
        self.weights[i] = total
        self.forget(j)
        gone = np.isinf(self.least)
        fresh = squared_distances(self.centroids[i : i + 1], self.centroids)[0]
        fresh[gone] = np.inf
        fresh[i] = np.inf
        self.distances[i], self.distances[:, i] = fresh, fresh
        closer = fresh < self.least
        self.nearest[closer], self.least[closer] = i, fresh[closer]
        for row in np.flatnonzero(~gone & ((self.nearest == i) | (self.nearest == j)) & ~closer):
            self.look(row)
        self.look(i)
        return i, j, float(np.sqrt(max(distance, 0.0)))

    def forget(self, j: int) -> None:
        """Take a cluster out."""
        self.distances[j], self.distances[:, j] = np.inf, np.inf
        self.least[j] = np.inf

    def look(self, row: int) -> None:
        """Find a cluster's nearest one anew."""
        self.nearest[row] = self.distances[row].argmin()
        self.least[row] = self.distances[row, self.nearest[row]]


def squared_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a * a).sum(1)[:, None] + (b * b).sum(1)[None] - 2 * (a @ b.T)


def unit(vectors: np.ndarray) -> np.ndarray:
    """The vectors at length 1."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


def joined(points: np.ndarray, weights: np.ndarray, progress: Progress) -> Iterator[tuple[float, np.ndarray]]:
    """Every partition from all apart to all as one: the distance joined at, and each point's cluster."""
    labels = np.arange(len(points))
    yield 0.0, labels.copy()
    if len(points) < 2:
        return
    merging = Merging(points, weights)
    for _ in range(len(points) - 1):
        i, j, distance = merging.join()
        labels[labels == j] = i
        progress()
        yield distance, labels.copy()


def cut(points: np.ndarray, weights: np.ndarray, threshold: float, progress: Progress) -> np.ndarray:
    """Each point's cluster, when no more are joined than lie within the threshold."""
    best = np.arange(len(points))
    for distance, labels in joined(points, weights, progress):
        if distance > threshold:
            break
        best = labels
    return best


def condensed(points: np.ndarray, progress: Progress) -> tuple[np.ndarray, np.ndarray]:
    """At most `LIMIT` centroids of the points, and how many points each stands for."""
    weights, threshold = np.ones(len(points)), TIGHT
    while len(points) > LIMIT:
        labels, number = np.empty(len(points), np.int64), 0
        for begin in range(0, len(points), LIMIT):
            block = slice(begin, begin + LIMIT)
            clusters = cut(points[block], weights[block], threshold, progress)
            _, numbered = np.unique(clusters, return_inverse=True)
            labels[block] = numbered + number
            number += int(numbered.max()) + 1
        points, weights = centroids(points, weights, labels, number)
        threshold *= 1.1
    return points, weights


def centroids(
    points: np.ndarray, weights: np.ndarray, labels: np.ndarray, number: int
) -> tuple[np.ndarray, np.ndarray]:
    """Each cluster's weighted mean and weight."""
    sums, totals = np.zeros((number, points.shape[1])), np.zeros(number)
    np.add.at(sums, labels, points * weights[:, None])
    np.add.at(totals, labels, weights)
    return sums / np.maximum(totals, 1e-12)[:, None], totals


def large(labels: np.ndarray, weights: np.ndarray, minimum: float) -> np.ndarray:
    """The clusters that weigh enough to be a speaker."""
    totals = np.bincount(labels, weights, len(labels))
    return np.flatnonzero(totals >= minimum)


def chosen(
    points: np.ndarray, weights: np.ndarray, fewest: int, most: int, progress: Progress
) -> tuple[np.ndarray, np.ndarray]:
    """The partition nearest to the threshold that has an allowed number of speakers, and these.

    Where none has so many that weigh enough, lighter ones count too.
    """
    minimum = min(MINIMUM, max(1.0, round(SHARE * float(weights.sum()))))
    steps = [(distance, labels) for distance, labels in joined(points, weights, progress)]
    stop = next((n for n, (distance, _) in enumerate(steps) if distance > THRESHOLD), len(steps)) - 1
    while True:
        for step in sorted(range(len(steps)), key=lambda n: abs(n - stop)):
            labels = steps[step][1]
            found = large(labels, weights, minimum)
            if fewest <= len(found) <= most:
                return labels, found
        if minimum <= 1:
            return steps[stop][1], large(steps[stop][1], weights, 0.5)
        minimum = max(1.0, minimum // 2)


def speakers(
    points: np.ndarray, fewest: int = 1, most: int = MOST, progress: Progress = lambda: None
) -> np.ndarray:
    """The speakers' voices as unit vectors (speaker, dimension), from at least one stretch's unit vector.

    There are between `fewest` and `most` of them, or as many as there are stretches when those are fewer.
    """
    centres, weights = condensed(points, progress)
    labels, found = chosen(centres, weights, min(fewest, len(centres)), most, progress)
    means, _ = centroids(centres, weights, labels, len(labels))
    nearest = squared_distances(unit(means), unit(means[found])).argmin(axis=1)
    nearest[found] = np.arange(len(found))
    return unit(centroids(centres, weights, nearest[labels], len(found))[0])


def owners(likeness: np.ndarray) -> list[int | None]:
    """Which speaker each local one of a window is: all different, as alike as can be; None: nobody.

    `likeness` is (local speaker, speaker), NaN for the local ones that nobody hears.
    """
    found: list[int | None] = [None] * len(likeness)
    audible = np.flatnonzero(~np.isnan(likeness).any(axis=1)).tolist()
    number = min(len(audible), likeness.shape[1])
    if not number:
        return found
    near = {int(k) for row in audible for k in np.argsort(-likeness[row])[: len(likeness)]}
    pairings = (
        list(zip(some, theirs, strict=True))
        for some in combinations(audible, number)
        for theirs in permutations(sorted(near), number)
    )
    for local, speaker in max(pairings, key=lambda pairs: sum(likeness[pair] for pair in pairs)):
        found[local] = speaker
    return found
