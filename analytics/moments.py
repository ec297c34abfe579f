"""The waist of analysis: what SQL has to say of a sample, and all that the statistics need of it.

Below it the warehouse aggregates; above it pure functions. Moments of disjoint samples add up to those of their union, so that
days, revisions or shards can be aggregated apart. They are kept as sums of products of deviations from the mean, which neither
cancel as raw sums of squares do nor divide by zero for a sample of one.

Source of the merging: Chan, Golub, LeVeque (1979), "Updating Formulae and a Pairwise Algorithm for Computing Sample Variances".
"""

from collections.abc import Mapping
from dataclasses import dataclass

Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Moments:
    """Of `count` units: the mean of each variable, and for each pair of them (a variable with itself included) the sum of the
    products of their deviations from their means. A pair stands once, in alphabetical order.
    """

    count: int
    means: Mapping[str, float]
    deviations: Mapping[Pair, float]

    def mean(self, name: str) -> float:
        return self.means[name]

    def var(self, name: str) -> float:
        """The sample variance. Raises ValueError for fewer than two units."""
        return self.cov(name, name)

    def cov(self, left: str, right: str) -> float:
        """The sample covariance. Raises ValueError for fewer than two units."""
        if self.count < 2:
            raise ValueError(f"{self.count} units have no variance")
        return self.deviations[_pair(left, right)] / (self.count - 1)

    def total(self, name: str) -> float:
        return self.count * self.means[name]

    def __add__(self, other: "Moments") -> "Moments":
        """The moments of both samples together; they must share no unit and have the same variables."""
        if self.means.keys() != other.means.keys():
            raise ValueError(f"moments of {sorted(self.means)} and of {sorted(other.means)} do not add up")
        if not self.count or not other.count:
            return self if self.count else other
        count = self.count + other.count
        gap = {name: other.means[name] - self.means[name] for name in self.means}
        weight = self.count * (other.count / count)
        return Moments(
            count,
            {name: mean + gap[name] * (other.count / count) for name, mean in self.means.items()},
            {
                (left, right): products + other.deviations[left, right] + gap[left] * gap[right] * weight
                for (left, right), products in self.deviations.items()
            },
        )


def _pair(left: str, right: str) -> Pair:
    return (left, right) if left <= right else (right, left)
