"""Class names and category ids of converted checkpoints.

Foreign checkpoints contain no category ids and, in AdelaiDet, no names. Outputs
are in the order of COCO's list in every code base.
"""

import json
import pathlib

from solo_jax.errors import UserError
from solo_jax.terminal import plural

# COCO 2017: (category id, name), in label order.
COCO = (
  (1, "person"),
  (2, "bicycle"),
  (3, "car"),
  (4, "motorcycle"),
  (5, "airplane"),
  (6, "bus"),
  (7, "train"),
  (8, "truck"),
  (9, "boat"),
  (10, "traffic light"),
  (11, "fire hydrant"),
  (13, "stop sign"),
  (14, "parking meter"),
  (15, "bench"),
  (16, "bird"),
  (17, "cat"),
  (18, "dog"),
  (19, "horse"),
  (20, "sheep"),
  (21, "cow"),
  (22, "elephant"),
  (23, "bear"),
  (24, "zebra"),
  (25, "giraffe"),
  (27, "backpack"),
  (28, "umbrella"),
  (31, "handbag"),
  (32, "tie"),
  (33, "suitcase"),
  (34, "frisbee"),
  (35, "skis"),
  (36, "snowboard"),
  (37, "sports ball"),
  (38, "kite"),
  (39, "baseball bat"),
  (40, "baseball glove"),
  (41, "skateboard"),
  (42, "surfboard"),
  (43, "tennis racket"),
  (44, "bottle"),
  (46, "wine glass"),
  (47, "cup"),
  (48, "fork"),
  (49, "knife"),
  (50, "spoon"),
  (51, "bowl"),
  (52, "banana"),
  (53, "apple"),
  (54, "sandwich"),
  (55, "orange"),
  (56, "broccoli"),
  (57, "carrot"),
  (58, "hot dog"),
  (59, "pizza"),
  (60, "donut"),
  (61, "cake"),
  (62, "chair"),
  (63, "couch"),
  (64, "potted plant"),
  (65, "bed"),
  (67, "dining table"),
  (70, "toilet"),
  (72, "tv"),
  (73, "laptop"),
  (74, "mouse"),
  (75, "remote"),
  (76, "keyboard"),
  (77, "cell phone"),
  (78, "microwave"),
  (79, "oven"),
  (80, "toaster"),
  (81, "sink"),
  (82, "refrigerator"),
  (84, "book"),
  (85, "clock"),
  (86, "vase"),
  (87, "scissors"),
  (88, "teddy bear"),
  (89, "hair drier"),
  (90, "toothbrush"),
)

# Of COCO's panoptic maps, after the things.
COCO_STUFF = (
  (92, "banner"),
  (93, "blanket"),
  (95, "bridge"),
  (100, "cardboard"),
  (107, "counter"),
  (109, "curtain"),
  (112, "door-stuff"),
  (118, "floor-wood"),
  (119, "flower"),
  (122, "fruit"),
  (125, "gravel"),
  (128, "house"),
  (130, "light"),
  (133, "mirror-stuff"),
  (138, "net"),
  (141, "pillow"),
  (144, "platform"),
  (145, "playingfield"),
  (147, "railroad"),
  (148, "river"),
  (149, "road"),
  (151, "roof"),
  (154, "sand"),
  (155, "sea"),
  (156, "shelf"),
  (159, "snow"),
  (161, "stairs"),
  (166, "tent"),
  (168, "towel"),
  (171, "wall-brick"),
  (175, "wall-stone"),
  (176, "wall-tile"),
  (177, "wall-wood"),
  (178, "water-other"),
  (180, "window-blind"),
  (181, "window-other"),
  (184, "tree-merged"),
  (185, "fence-merged"),
  (186, "ceiling-merged"),
  (187, "sky-other-merged"),
  (188, "cabinet-merged"),
  (189, "table-merged"),
  (190, "floor-other-merged"),
  (191, "pavement-merged"),
  (192, "mountain-merged"),
  (193, "grass-merged"),
  (194, "dirt-merged"),
  (195, "paper-merged"),
  (196, "food-other-merged"),
  (197, "building-other-merged"),
  (198, "rock-merged"),
  (199, "wall-other-merged"),
  (200, "rug-merged"),
)
COCO_PANOPTIC = (*COCO, *COCO_STUFF)


# Names of ids that COCO skips; torchvision has untrained outputs for them.
NO_CATEGORY = "N/A"
COCO_WITH_HOLES = tuple(
  (category, dict(COCO).get(category, NO_CATEGORY))
  for category in range(1, COCO[-1][0] + 1)
)


def find_classes(
  num_classes: int,
  noted: tuple[str, ...] | None,
  categories: str | None,
) -> tuple[tuple[tuple[int, str], ...], str]:
  """Returns the classes of a checkpoint.

  Args:
    num_classes: Outputs of its class head, K.
    noted: Names stored in it, in label order, or None.
    categories: Path of a JSON file in COCO's layout whose 'categories' are the
      classes, by increasing id; None to use the checkpoint's.

  Returns:
    classes: (category id, name) of each label.
    source: Their source, for display.

  Raises:
    FileNotFoundError: If there is no such file.
    UserError: If the number of classes is not K, or none are known.
  """
  if categories is not None:
    classes, source = _read_categories(categories), f"from {categories}"
  elif noted is not None and _is(COCO, noted):
    classes, source = COCO, "COCO's, as noted in the checkpoint"
  elif noted is not None and _is(COCO_PANOPTIC, noted):
    classes = COCO_PANOPTIC
    source = "COCO's things and stuff, as noted in the checkpoint"
  elif noted is not None:
    classes = tuple(enumerate(noted, start=1))
    source = "as noted in the checkpoint, with ids from 1"
  elif num_classes == len(COCO):
    classes, source = COCO, "COCO's, as there are 80"
  elif num_classes == len(COCO_PANOPTIC):
    classes = COCO_PANOPTIC
    source = "COCO's things and stuff, as there are 133"
  elif num_classes == len(COCO_WITH_HOLES):
    classes = COCO_WITH_HOLES
    source = "all ids that COCO has or skips, as there are 90"
  else:
    raise UserError(
      f"the checkpoint has {plural(num_classes, 'class')} but no names; pass "
      "--categories, the COCO annotation file that it was trained on"
    )
  if len(classes) != num_classes:
    raise UserError(
      f"the class head has {num_classes} outputs, but there are "
      f"{plural(len(classes), 'class')} {source}; pass --categories, the "
      "COCO annotation file that it was trained on"
    )
  return classes, source


def _read_categories(path: str) -> tuple[tuple[int, str], ...]:
  content = pathlib.Path(path).read_bytes()
  try:
    return tuple(
      sorted((int(x["id"]), str(x["name"])) for x in _categories(content))
    )
  except (KeyError, TypeError, ValueError) as error:
    raise UserError(
      f"{path}: expected a JSON object with 'categories', a list of objects "
      f"with 'id' and 'name' ({error!r})"
    ) from error


def _categories(content: bytes) -> list:
  return json.loads(content)["categories"]


def _is(classes: tuple[tuple[int, str], ...], names: tuple[str, ...]) -> bool:
  """Returns whether names are COCO's, including older ones with underscores."""
  return tuple(name.replace("_", " ") for name in names) == tuple(
    name for _, name in classes
  )
