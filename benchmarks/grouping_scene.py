"""Synthetic embeddings of elliptic objects, for benchmark and tests."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scene:
  """One image of noisy tags.

  Attributes:
    truth: Instance of each pixel, 1..N; 0 for background. [Q] int32.
    embedding: Cluster means plus noise. [Q, T] float32.
    seed: Constant, thus uninformative. [Q] float32.
    size: (h, w).
  """

  truth: np.ndarray
  embedding: np.ndarray
  seed: np.ndarray
  size: tuple[int, int]

  @property
  def foreground(self) -> np.ndarray:
    """Pixels of any object. [Q] bool."""
    return self.truth > 0


def make_scene(
  seed: int,
  *,
  size: tuple[int, int],
  num_objects: int,
  noise: float,
  num_tags: int = 8,
  spread: float = 1.5,
) -> Scene:
  """Draws a scene.

  Args:
    seed: Of the random generator.
    size: (h, w).
    num_objects: N; an object hidden by others is left out.
    noise: Standard deviation of each dimension of each pixel's tag.
    num_tags: T.
    spread: Standard deviation of each dimension of the cluster means.

  Returns:
    The scene.
  """
  rng = np.random.default_rng(seed)
  height, width = size
  y, x = np.mgrid[:height, :width]
  truth = np.zeros(size, np.int32)
  side = np.sqrt(height * width / num_objects)
  for k in range(1, num_objects + 1):
    cy, cx = rng.uniform(0, height), rng.uniform(0, width)
    a, b = rng.uniform(0.2, 0.5, 2) * side
    angle = rng.uniform(0, np.pi)
    u = (x - cx) * np.cos(angle) + (y - cy) * np.sin(angle)
    v = (y - cy) * np.cos(angle) - (x - cx) * np.sin(angle)
    truth[(u / a) ** 2 + (v / b) ** 2 < 1] = k
  # Objects of which only slivers are visible do not count.
  area = np.bincount(truth.ravel(), minlength=num_objects + 1)
  truth[(area < 20)[truth]] = 0
  truth = np.unique(truth, return_inverse=True)[1].astype(np.int32).reshape(-1)
  means = rng.normal(0, spread, (truth.max() + 1, num_tags))
  embedding = means[truth] + rng.normal(0, noise, (truth.size, num_tags))
  return Scene(
    truth=truth,
    embedding=embedding.astype(np.float32),
    seed=np.full(truth.size, 0.9, np.float32),
    size=size,
  )


def mean_iou(truth: np.ndarray, assignment: np.ndarray) -> float:
  """Mean over the true instances of their best IoU with any group.

  Args:
    truth: [Q] int, 0 for background.
    assignment: [Q] int, 0 for none.

  Returns:
    In [0, 1].
  """
  counts = np.zeros((truth.max() + 1, assignment.max() + 1))
  np.add.at(counts, (truth, assignment), 1)
  union = counts.sum(1, keepdims=True) + counts.sum(0) - counts
  return float((counts / np.maximum(union, 1))[1:, 1:].max(1, initial=0).mean())
