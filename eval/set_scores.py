"""Scores of a whole set of pictures: FID, KID, ID-FID, U-IDS and P-IDS, verification and recognition of people.

They read features (Inception [2048], SFace [128]) that the benchmark caches beside its rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from estimates import Estimate, resample_weights
from scipy.optimize import minimize

FAR = 1e-3
FOLDS = 5
SET_DRAWS = 200  # bootstrap draws of the distances between sets


def frechet_distance(a: np.ndarray, b: np.ndarray, weights: np.ndarray | None = None) -> float:
    """|mean_a - mean_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2)) of features [N, D] and [M, D] (Heusel 2017, eq. 6).

    With S_a = A'A and S_b = B'B the root's trace is the sum of AB''s singular values: exact, and fast for N < D.
    weights [N]: how often each photo counts (the same photos in both sets), as if the rows were there that often.
    """
    sides = []
    for x in (np.asarray(a, np.float64), np.asarray(b, np.float64)):
        w = np.ones(len(x)) if weights is None else np.asarray(weights, np.float64)
        x, w = x[w > 0], w[w > 0, None]
        mean = (w * x).sum(0) / w.sum()
        sides.append((mean, (x - mean) * np.sqrt(w / (w.sum() - 1))))
    (mean_a, a), (mean_b, b) = sides
    shift = mean_a - mean_b
    root = np.linalg.svd(a @ b.T, compute_uv=False).sum()
    return float(max(shift @ shift + (a**2).sum() + (b**2).sum() - 2 * root, 0.0))


def kernel_distance(a: np.ndarray, b: np.ndarray) -> Callable[[np.ndarray | None], float]:
    """Unbiased squared MMD of features [N, D] twice, kernel (x.y / D + 1)^3, all N (KID, Binkowski 2018, eq. 4).

    A function of the weights [N]: how often each photo counts (the same photos in both sets), None for once; a photo
    is never paired with its copy.
    """
    aa, bb, ab = (cubic_kernel(x, y) for x, y in ((a, a), (b, b), (a, b)))
    both = (aa + bb) * (1 - np.eye(len(a)))

    def measure(weights: np.ndarray | None = None) -> float:
        w = np.ones(len(a)) if weights is None else np.asarray(weights, np.float64)
        apart = w.sum() ** 2 - (w**2).sum()
        return float(w @ both @ w / apart - 2 * (w @ ab @ w) / w.sum() ** 2)

    return measure


def cubic_kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(x.y / D + 1)^3 of all pairs, [N, D] and [M, D] -> [N, M]."""
    return (np.asarray(x, np.float64) @ np.asarray(y, np.float64).T / x.shape[1] + 1) ** 3


def linear_svm(features: np.ndarray, labels: np.ndarray, penalty: float = 1.0) -> np.ndarray:
    """[D + 1] weights and bias that minimise |w|^2 / 2 + C sum max(0, 1 - y f(x))^2, labels +1 or -1.

    The problem of scikit-learn's LinearSVC(dual=False), which CoModGAN's U-IDS uses, bias penalised as there.
    """
    x = np.column_stack([features, np.ones(len(features))]).astype(np.float64)

    def loss(w: np.ndarray) -> tuple[float, np.ndarray]:
        slack = np.maximum(0, 1 - labels * (x @ w))
        return 0.5 * w @ w + penalty * slack @ slack, w - 2 * penalty * x.T @ (labels * slack)

    return minimize(loss, np.zeros(x.shape[1]), jac=True, method="L-BFGS-B", options={"maxiter": 500}).x


def inception_discriminative(
    real: np.ndarray, fake: np.ndarray, people: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """(U-IDS, P-IDS) of each photo, [N] each, from an SVM that never saw the person (Zhao 2021, section 3.3).

    U-IDS: share of the pair (real, fake) that the SVM takes for the other kind; P-IDS: 1 where the fake looks more
    real than its original. The paper scores the training set, which is 0 by construction below 2,049 pictures.
    """
    fold = np.unique(people, return_inverse=True)[1] % FOLDS
    unpaired, paired = np.full(len(real), np.nan), np.full(len(real), np.nan)
    for number in np.unique(fold):
        inner, outer = fold == number, fold != number
        if not outer.any():
            continue
        labels = np.repeat([1.0, -1.0], outer.sum())
        weights = linear_svm(np.concatenate([real[outer], fake[outer]]), labels)
        of_real, of_fake = (x[inner] @ weights[:-1] + weights[-1] for x in (real, fake))
        unpaired[inner] = ((of_real <= 0) + 0.0 + (of_fake > 0)) / 2
        paired[inner] = of_fake > of_real
    return unpaired, paired


def split_pairs(cosine: np.ndarray, person: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cosines of pairs i < j of one person, and of two people."""
    i, j = np.triu_indices(len(person), 1)
    same = person[i] == person[j]
    return cosine[i, j][same], cosine[i, j][~same]


def pair_owners(person: np.ndarray) -> np.ndarray:
    """Whose the pairs i < j of one person are, in split_pairs' order."""
    i, j = np.triu_indices(len(person), 1)
    return person[i][person[i] == person[j]]


def rank_below(genuine: np.ndarray, impostor: np.ndarray) -> np.ndarray:
    """For each genuine cosine the share of impostor cosines below it (ties half); its mean is the AUC."""
    ordered = np.sort(impostor)
    below = np.searchsorted(ordered, genuine, "left") + np.searchsorted(ordered, genuine, "right")
    return below / max(2 * len(ordered), 1)


@dataclass(frozen=True)
class Gallery:
    """Untouched photos: SFace vectors [M, 128] (all zero: no face found) and whose they are."""

    vectors: np.ndarray
    people: np.ndarray

    def found(self) -> tuple[np.ndarray, np.ndarray]:
        """(cosines [K, K], people [K]) of the photos in which a face was found."""
        found = np.abs(self.vectors).sum(1) > 0
        return self.vectors[found] @ self.vectors[found].T, self.people[found]

    def threshold(self, far: float = FAR) -> float:
        """The cosine that a share `far` of the pairs of different people exceeds; NaN with one person."""
        _, impostor = split_pairs(*self.found())
        return float(np.quantile(impostor, 1 - far)) if impostor.size else float("nan")

    def genuine_ranks(self) -> tuple[np.ndarray, list[str]]:
        """rank_below of each pair of photos of one person, and whose pair it is; the ranks' mean is the AUC of the
        identity metric on real pairs."""
        cosine, people = self.found()
        return rank_below(*split_pairs(cosine, people)), list(pair_owners(people))


def accepted(vectors: np.ndarray, others: Sequence[np.ndarray], threshold: float) -> np.ndarray:
    """[N] share of the person's other photos (others[i] [K, 128]) that vectors [N, 128] match above the threshold.

    A zero vector (no face found) matches nothing.
    """
    return np.array([np.mean((o @ v > threshold) & np.any(v)) if len(o) else np.nan for v, o in zip(vectors, others)])


def recognised(vectors: np.ndarray, people: Sequence[str], others: Sequence[np.ndarray]) -> np.ndarray:
    """[N] 1 where, of all people's means of other photos, the right person's is nearest; no face found counts 0.

    others[i] [K, 128]: other photos of people[i], never the scored one; NaN for a person without any.
    """
    means = {who: _unit(own.mean(0)) for who, own in zip(people, others) if len(own)}
    right = np.full(len(vectors), np.nan)
    for index, (vector, who, own) in enumerate(zip(vectors, people, others)):
        if len(own):
            rival = max((float(mean @ vector) for name, mean in means.items() if name != who), default=-1.0)
            right[index] = float(np.any(vector) and _unit(own.mean(0)) @ vector > rival)
    return right


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / max(float(np.linalg.norm(vector)), 1e-12)


def set_distance(measure: Callable[[np.ndarray], float], people: Sequence[str], draws: int = SET_DRAWS) -> Estimate:
    """measure(weights [N] of the photos), with an interval over people.

    Repeated photos shrink a set and raise its distance: the draws' spread round their median is put round the value.
    """
    value = measure(np.ones(len(people)))
    samples = np.array([measure(w) for w in resample_weights(list(people), draws) if (w > 0).sum() > 2])
    if not samples.size:
        return Estimate(value, float("nan"), float("nan"))
    low, middle, high = np.percentile(samples, [2.5, 50, 97.5])
    return Estimate(value, float(value + low - middle), float(value + high - middle))
