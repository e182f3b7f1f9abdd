"""Which classes are neighbours more often than by chance: neighbourhood enrichment.

For classes a and b, the edges of a graph between them are counted, and again with the labels permuted among the cells
of each region class (random labelling). z = (seen - mean) / standard deviation of the permutations, and p, two-sided,
is twice the smaller rank (Palla et al. 2022, https://doi.org/10.1038/s41592-021-01358-2, with permutations within
strata). The ratio of seen to mean is the effect size and comes first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tissuebridge.errors import UsageError
from tissuebridge.spatial.graph import Graph
from tissuebridge.spatial.multiple import PValue, benjamini_hochberg, monte_carlo_p
from tissuebridge.spatial.nulls import SIMULATIONS, RandomLabelling, permuted_within


@dataclass(frozen=True, slots=True)
class Enrichment:
    """Two classes in a neighbourhood graph.

    Attributes:
        cell_class: One class.
        other: The other, or the same.
        edges: Edges between them.
        expected: Mean of the permutations.
        ratio: Edges over expected; None where none are expected.
        interval: The ratio's middle 95 % under chance; None where none are expected.
        z: Standard deviations beyond chance; None where permutations never differ.
        p: Two-sided.
        q: Corrected over all pairs of classes of the graph (Benjamini-Hochberg); None where p is.
    """

    cell_class: str
    other: str
    edges: int
    expected: float
    ratio: float | None
    interval: tuple[float, float] | None
    z: float | None
    p: PValue
    q: float | None


def enrichment(
    graph: Graph,
    labels: NDArray[np.intp],
    classes: Sequence[str],
    stratum: NDArray[np.intp] | None = None,
    *,
    permutations: int = SIMULATIONS,
    seed: int = 0,
) -> list[Enrichment]:
    """Every pair of classes.

    Args:
        graph: The neighbours.
        labels: int (n,), class of each cell.
        classes: Names.
        stratum: int (n,), within which labels are exchanged; None: all over.
        permutations: At least 19.
        seed: The same seed gives the same p.

    Raises:
        UsageError: Fewer than 19 permutations.
    """
    if permutations < 19:
        raise UsageError(f"{permutations} permutations cannot reach p = 0.05; take at least 19, or 999")
    stratum = np.zeros(len(labels), np.intp) if stratum is None else stratum
    seen = count_edges(graph, labels, len(classes))
    drawn = np.array(
        [
            count_edges(
                graph, permuted_within(labels, stratum, np.random.default_rng((seed, k))), len(classes)
            )
            for k in range(permutations)
        ]
    )
    pairs = [(a, b) for a in range(len(classes)) for b in range(a, len(classes))]
    found = [_pair(classes[a], classes[b], int(seen[a, b]), drawn[:, a, b]) for a, b in pairs]
    q = benjamini_hochberg(np.array([np.nan if one.p.value is None else one.p.value for one in found]))
    return [_with_q(one, value) for one, value in zip(found, q.tolist(), strict=True)]


def count_edges(graph: Graph, labels: NDArray[np.intp], classes: int) -> NDArray[np.int64]:
    """Edges between each two classes, symmetric; those within a class once.

    >>> count_edges(Graph(3, np.array([[0, 1], [1, 2]]), ""), np.array([0, 1, 1]), 2).tolist()
    [[0, 1], [1, 1]]
    """
    a, b = labels[graph.edges[:, 0]], labels[graph.edges[:, 1]]
    counts = np.bincount(a * classes + b, minlength=classes**2).reshape(classes, classes)
    both = counts + counts.T
    np.fill_diagonal(both, np.diag(counts))
    return both


def _pair(cell_class: str, other: str, edges: int, drawn: NDArray[np.int64]) -> Enrichment:
    expected, deviation = float(drawn.mean()), float(drawn.std())
    how = f"{len(drawn)} permutations"
    if deviation == 0:
        ratio = edges / expected if expected else None
        return Enrichment(
            cell_class,
            other,
            edges,
            expected,
            ratio,
            None,
            None,
            PValue(None, RandomLabelling.name, how),
            None,
        )
    more, less = monte_carlo_p(edges, drawn), monte_carlo_p(-edges, -drawn)
    low, high = (np.quantile(drawn, (0.025, 0.975)) / expected).tolist()
    p = PValue(min(2 * min(more, less), 1.0), RandomLabelling.name, how)
    return Enrichment(
        cell_class,
        other,
        edges,
        expected,
        edges / expected,
        (low, high),
        (edges - expected) / deviation,
        p,
        None,
    )


def _with_q(one: Enrichment, q: float) -> Enrichment:
    return one if np.isnan(q) else replace(one, q=q)
