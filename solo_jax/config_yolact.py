"""The rows of the table of fields that only YOLACT has.

Neutral values are those of the authors' code; comments name mmdetection's.
"""

from solo_jax.config_checks import (
  AMOUNT,
  FACTOR,
  FLAG,
  POSITIVE,
  SHARE,
  Field,
  each,
  one_of,
  optional,
  section,
)

YOLACT = ("yolact",)

YOLACT_FIELDS = (
  *section(
    "network",
    YOLACT,
    Field("fpn_channels", 256, POSITIVE, "of pyramid and heads"),
    Field("rectified_pyramid", True, FLAG, "False in mmdetection"),
    Field("p6_source", "p5", one_of("p5", "c5"), "'c5' in mmdetection"),
    Field("num_protos", 32, POSITIVE, "prototypes"),
    Field(
      "prior_sizes",
      ((24.0,), (48.0,), (96.0,), (192.0,), (384.0,)),
      each(each(FACTOR, at_least=1), 5),
      "sqrt of the area, network px, on P3 to P7",
    ),
    Field("prior_ratios", (1.0, 2.0, 0.5), each(FACTOR, at_least=1), "h / w"),
    Field("square_priors", True, FLAG, "False: YOLACT++ and mmdetection"),
    Field(
      "mask_score_channels",
      (),
      each(POSITIVE),
      "YOLACT++: convolutions that score masks; (): none",
    ),
  ),
  *section(
    "loss",
    YOLACT,
    Field(
      "assignment",
      "greedy",
      one_of("greedy", "best_prior"),
      "'best_prior' in mmdetection",
    ),
    Field(
      "empty_image",
      "positives",
      one_of("positives", "all"),
      "negatives without an object: none, or 'all'",
    ),
    Field("least_count", 0, one_of(0, 1), "of an image in the divisor"),
    Field("max_masks", 100, POSITIVE, "positives of an image with a mask loss"),
    Field("semantic_labels", "own", one_of("own", "previous")),
    Field("semantic_on_empty", True, FLAG, "False in mmdetection"),
    Field("category_weight", 1.0, AMOUNT),
    Field("box_weight", 1.5, AMOUNT),
    Field("mask_weight", 6.125, AMOUNT),
    Field("semantic_weight", 1.0, AMOUNT),
    Field("mask_score_weight", 0.0, AMOUNT, "YOLACT++: 25"),
  ),
  *section(
    "decode",
    YOLACT,
    Field("score_threshold", 0.05, SHARE),
    Field(
      "scored",
      "prior",
      one_of("prior", "detection"),
      "what the threshold is for",
    ),
    Field("candidates_per_level", None, optional(POSITIVE), "None: all"),
    Field("clip_boxes", False, FLAG, "before they compete"),
    Field("top_k", 200, POSITIVE, "boxes of a class that compete"),
    Field("nms_threshold", 0.5, SHARE),
    Field("across_classes", False, FLAG, "one class for each place"),
  ),
)
