"""The rows of the table of fields that only QueryInst has.

Neutral values are those published for 100 proposals.
"""

from solo_jax.config_checks import (
  AMOUNT,
  FACTOR,
  POSITIVE,
  SHARE,
  Field,
  one_of,
  optional,
  section,
)

QUERYINST = ("queryinst",)

QUERYINST_FIELDS = (
  *section(
    "network",
    QUERYINST,
    Field("channels", 256, POSITIVE, "of pyramid and proposals"),
    Field("num_proposals", 100, POSITIVE, "most objects of an image"),
    Field(
      "proposal_init",
      "image",
      one_of("image", "grid"),
      "first boxes: the whole image, or a grid of square ones",
    ),
    Field("num_stages", 6, POSITIVE),
    Field(
      "num_mask_stages",
      None,
      optional(POSITIVE),
      "last stages that also draw masks; None: all",
    ),
    Field("num_heads", 8, POSITIVE, "of the attention"),
    Field("hidden", 2048, POSITIVE, "of the perceptrons"),
    Field("dynamic_channels", 64, POSITIVE),
    Field("num_class_layers", 1, POSITIVE),
    Field("num_box_layers", 3, POSITIVE),
    Field("num_mask_convs", 4, POSITIVE),
    Field(
      "pool_base_size", 56.0, FACTOR, "sqrt of the area from which P3 is read"
    ),
  ),
  *section(
    "loss",
    QUERYINST,
    Field("category_weight", 2.0, AMOUNT),
    Field("box_weight", 5.0, AMOUNT),
    Field("giou_weight", 2.0, AMOUNT),
    Field("mask_weight", 8.0, AMOUNT),
    Field(
      "masks_per_image",
      None,
      optional(POSITIVE),
      "masks trained, on average over a device's images; None: all",
    ),
  ),
  *section(
    "decode",
    QUERYINST,
    Field("score_threshold", 0.0, SHARE),
  ),
)
