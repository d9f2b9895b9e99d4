"""Drawn scenes of five kinds of shapes: a dataset that needs no download.

Every scene is 128 x 128 with 3 to 9 discs, rectangles, triangles, stars and
rings of 12 to 72 pixels, rotated, over a graded or textured background with
noise. Later objects cover earlier ones; a mask is the visible part.

Everything is computed on a grid three times as fine. The middle sample of a
pixel decides which object it belongs to, so masks are exact and disjoint; the
mean over its nine samples gives anti-aliased colours.
"""

import dataclasses

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from solo_jax.data import builder, examples
from solo_jax.data.findings import Findings

CLASS_NAMES = ("disc", "rectangle", "triangle", "star", "ring")
SIZE = 128  # pixels, height and width of a scene
FINE = 3  # samples per pixel and axis; odd, so that one is at the centre
NUM_OBJECTS = (3, 9)
DIAMETERS = (12, 72)  # pixels, of the circle around an object
# At least this share of an object stays visible, or the covering one moves.
MIN_VISIBLE_PIXELS = 64
MIN_VISIBLE_FRACTION = 0.4


@dataclasses.dataclass(frozen=True)
class Scene:
  """A drawn scene.

  Attributes:
    image: [SIZE, SIZE, 3] uint8, RGB.
    masks: Visible pixels, disjoint. [N, SIZE, SIZE] bool.
    labels: Index into `CLASS_NAMES`. [N] int32.
    full_areas: Pixels of each object if nothing covered it. [N] int64.
  """

  image: np.ndarray
  masks: np.ndarray
  labels: np.ndarray
  full_areas: np.ndarray


def inside_polygon(
  x: np.ndarray, y: np.ndarray, vertices: np.ndarray
) -> np.ndarray:
  """Returns which points are inside, by the even-odd rule.

  Args:
    x: Any shape.
    y: Same shape as `x`.
    vertices: (x, y) of a simple polygon. [V, 2].

  Returns:
    True inside. Same shape as `x`, bool.
  """
  inside = np.zeros(x.shape, bool)
  following = np.roll(vertices, -1, axis=0)
  for (x0, y0), (x1, y1) in zip(vertices, following, strict=True):
    if y0 != y1:
      slope = (x1 - x0) / (y1 - y0)
      inside ^= ((y0 > y) != (y1 > y)) & (x < x0 + slope * (y - y0))
  return inside


def _on_circle(angles: np.ndarray) -> np.ndarray:
  return np.stack([np.cos(angles), np.sin(angles)], 1)


def _draw_silhouette(
  rng: np.random.Generator, label: int, center: np.ndarray, radius: float
) -> np.ndarray:
  """Returns the fine samples inside a random shape, [SIZE * FINE] ** 2 bool."""
  fine = np.zeros((SIZE * FINE, SIZE * FINE), bool)
  low = np.maximum(np.floor((center - radius) * FINE).astype(int), 0)
  high = np.ceil((center + radius) * FINE).astype(int) + 1
  window = (slice(low[1], high[1]), slice(low[0], high[0]))
  rows, columns = (np.arange(SIZE * FINE)[s] for s in window)
  # In units of the radius, relative to the centre.
  x = (((columns + 0.5) / FINE - center[0]) / radius)[None, :]
  y = (((rows + 0.5) / FINE - center[1]) / radius)[:, None]
  x, y = np.broadcast_arrays(x, y)
  turn = rng.uniform(0, 2 * np.pi)
  match CLASS_NAMES[label]:
    case "disc":
      inside = x**2 + y**2 <= 1
    case "ring":
      inner = rng.uniform(0.45, 0.7)
      inside = (x**2 + y**2 <= 1) & (x**2 + y**2 > inner**2)
    case "rectangle":
      # Half the angle between the diagonals: pi / 4 is a square. The short
      # side stays above 4 pixels.
      low_half = max(np.arctan(0.2), np.arcsin(min(2 / radius, 0.7)))
      half = rng.uniform(low_half, np.pi / 4)
      corners = np.array([half, np.pi - half, np.pi + half, -half])
      inside = inside_polygon(x, y, _on_circle(corners + turn))
    case "triangle":
      corners = np.arange(3) * 2 * np.pi / 3 + rng.uniform(-0.35, 0.35, 3)
      inside = inside_polygon(x, y, _on_circle(corners + turn))
    case "star":
      tips = _on_circle(np.arange(5) * 2 * np.pi / 5 + turn)
      notches = _on_circle((np.arange(5) + 0.5) * 2 * np.pi / 5 + turn)
      notches *= rng.uniform(0.38, 0.52)
      outline = np.stack([tips, notches], 1).reshape(10, 2)
      inside = inside_polygon(x, y, outline)
  fine[window] = inside
  return fine


def _draw_background(rng: np.random.Generator) -> np.ndarray:
  """Returns a graded or textured colour field, [SIZE, SIZE, 3] float."""
  color = rng.uniform(30, 225, 3)
  if rng.random() < 0.5:
    turn = rng.uniform(0, 2 * np.pi)
    ramp = np.linspace(-0.5, 0.5, SIZE)
    weight = np.cos(turn) * ramp[None, :] + np.sin(turn) * ramp[:, None]
    return color + weight[..., None] * rng.uniform(-80, 80, 3)
  cells = int(rng.integers(4, 24))
  texture = rng.normal(0, rng.uniform(5, 18), (cells, cells, 3))
  return color + cv2.resize(
    texture, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC
  )


def _pick_color(
  rng: np.random.Generator, background: np.ndarray, others: list[np.ndarray]
) -> np.ndarray:
  """Returns a random colour, often similar to one already in the scene."""
  while True:
    color = rng.uniform(10, 245, 3)
    if rng.random() < 0.25:
      near = [background, *others][rng.integers(len(others) + 1)]
      color = np.clip(near + rng.normal(0, 28, 3), 10, 245)
    if np.linalg.norm(color - background) > 35:
      return color


def _place_objects(rng: np.random.Generator) -> tuple[np.ndarray, list, list]:
  """Returns 3 to 9 objects, about half of them placed onto an earlier one.

  Returns:
    The topmost object of each fine sample, -1 for background,
    [SIZE * FINE] ** 2 int8; the labels; the full areas in pixels.
  """
  owner = np.full((SIZE * FINE, SIZE * FINE), -1, np.int8)
  middle = slice(FINE // 2, None, FINE)
  labels, full_areas, circles = [], [], []
  target = rng.integers(NUM_OBJECTS[0], NUM_OBJECTS[1] + 1)
  for attempt in range(200):
    # A crowded scene may stop early, but not below the minimum.
    enough = len(labels) >= NUM_OBJECTS[0] and attempt >= 60
    if len(labels) == target or enough:
      break
    label = int(rng.integers(len(CLASS_NAMES)))
    radius = rng.uniform(*DIAMETERS) / 2
    if circles and rng.random() < 0.5:
      near, near_radius = circles[rng.integers(len(circles))]
      turn = rng.uniform(0, 2 * np.pi)
      distance = rng.uniform(0.2, 0.95) * (radius + near_radius)
      center = near + distance * np.array([np.cos(turn), np.sin(turn)])
    else:
      center = rng.uniform(0, SIZE, 2)
    # At most a quarter of the diameter may be beyond the border.
    center = np.clip(center, radius / 2, SIZE - radius / 2)
    shape = _draw_silhouette(rng, label, center, radius)
    full_area = int(shape[middle, middle].sum())
    drawn = np.where(shape, np.int8(len(labels)), owner)
    visible = drawn[middle, middle]
    visible = np.bincount(visible[visible >= 0], minlength=len(labels) + 1)
    full = np.array([*full_areas, full_area])
    needed = np.maximum(MIN_VISIBLE_FRACTION * full, MIN_VISIBLE_PIXELS)
    if (visible >= needed).all():
      owner = drawn
      labels.append(label)
      full_areas.append(full_area)
      circles.append((center, radius))
  return owner, labels, full_areas


def draw_scene(rng: np.random.Generator) -> Scene:
  """Returns one drawn scene.

  Args:
    rng: Source of all draws.

  Returns:
    The scene, 3 to 9 objects.
  """
  owner, labels, full_areas = _place_objects(rng)
  image = _draw_background(rng)
  background = image.mean((0, 1))
  ramp = np.linspace(-0.5, 0.5, SIZE)
  layers, colors = [], []
  for k in range(len(labels)):
    colors.append(_pick_color(rng, background, colors))
    shade = rng.uniform(-25, 25, 2)
    shade = shade[0] * ramp[None, :] + shade[1] * ramp[:, None]
    samples = (owner == k).astype(np.float32)
    coverage = cv2.resize(samples, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    layers.append((coverage, colors[k] + shade[..., None]))
  covered = sum(coverage for coverage, _ in layers)
  image = image * (1 - covered)[..., None]
  for coverage, layer in layers:
    image += coverage[..., None] * layer
  image += rng.normal(0, rng.uniform(2, 10), image.shape)
  centers = owner[FINE // 2 :: FINE, FINE // 2 :: FINE]
  return Scene(
    image=np.clip(np.round(image), 0, 255).astype(np.uint8),
    masks=centers == np.arange(len(labels))[:, None, None],
    labels=np.asarray(labels, np.int32),
    full_areas=np.asarray(full_areas, np.int64),
  )


@dataclasses.dataclass(frozen=True)
class DrawnScenes:
  """A split of scenes; scene i depends only on the seed and its image id.

  Attributes:
    seed: Seed of the dataset.
    first_id: Image id of the first scene; ids count up.
    num_images: Number of scenes.
  """

  seed: int
  first_id: int
  num_images: int

  def __len__(self) -> int:
    return self.num_images

  def __getitem__(self, index: int) -> tuple[bytes, examples.ImageRecord]:
    """Returns scene `index`: the bytes of a PNG file, and its objects."""
    image_id = self.first_id + range(self.num_images)[index]
    scene = draw_scene(np.random.default_rng((self.seed, image_id)))
    planes = np.asfortranarray(scene.masks.transpose(1, 2, 0), np.uint8)
    objects = []
    for k, rle in enumerate(coco_mask.encode(planes)):
      objects.append(
        examples.ObjectRecord(
          annotation_id=image_id * (NUM_OBJECTS[1] + 1) + k,
          label=int(scene.labels[k]),
          is_crowd=False,
          rle=rle["counts"],
          area=float(coco_mask.area(rle)),
          box_xywh=tuple(coco_mask.toBbox(rle)),
        )
      )
    _, png = cv2.imencode(".png", cv2.cvtColor(scene.image, cv2.COLOR_RGB2BGR))
    return png.tobytes(), examples.ImageRecord(
      image_id=image_id,
      file_name=f"{image_id:06d}.png",
      height=SIZE,
      width=SIZE,
      objects=objects,
    )


class Shapes(builder.RecordsBuilder):
  """Builder of drawn scenes: 2,000 to train on, 200 held out."""

  def __init__(
    self,
    *,
    data_dir: str,
    name: str = "",
    seed: int = 0,
    num_train: int = 2000,
    num_validation: int = 200,
  ):
    """Makes the builder.

    Args:
      data_dir: Directory of all prepared datasets.
      name: Name below `shapes`; '' for none.
      seed: Other seeds give other scenes.
      num_train: Scenes in the train split.
      num_validation: Scenes in the validation split.
    """
    super().__init__(data_dir=data_dir, name=name)
    self._splits = {
      "train": DrawnScenes(seed, 1, num_train),
      "validation": DrawnScenes(seed, 1 + num_train, num_validation),
    }

  def read_splits(self, dl_manager):
    """Returns the scenes of each split."""
    del dl_manager  # nothing to download
    self.describe(
      builder.Description(
        class_names=CLASS_NAMES,
        category_ids=range(1, len(CLASS_NAMES) + 1),
        source=f"seed {self._splits['train'].seed}",
        findings=Findings(),
        num_images=sum(map(len, self._splits.values())),
      )
    )
    return self._splits
