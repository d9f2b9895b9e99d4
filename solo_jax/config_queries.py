"""The rows of the table of fields that only query methods have.

Neutral sizes, weights and numbers of points are those published.
"""

from solo_jax.config_checks import (
  AMOUNT,
  COUNT,
  FACTOR,
  FLAG,
  POSITIVE,
  SHARE,
  Check,
  Field,
  each,
  optional,
  section,
)

QUERIES = ("mask2former",)
AT_LEAST_ONE = Check(float, "a number, 1 or above", lambda value: value >= 1)

QUERY_FIELDS = (
  *section(
    "network",
    QUERIES,
    Field("num_queries", 100, POSITIVE, "most objects of an image"),
    Field("channels", 256, POSITIVE, "of both decoders; a multiple of 32"),
    Field("mask_channels", 256, POSITIVE),
    Field("num_heads", 8, POSITIVE, "of every attention"),
    Field("num_encoder_layers", 6, POSITIVE, "of the pixel decoder"),
    Field("encoder_hidden", 1024, POSITIVE),
    Field("num_decoder_layers", 9, POSITIVE, "a multiple of 3: the levels"),
    Field("decoder_hidden", 2048, POSITIVE),
    Field("remat_encoder", False, FLAG, "True: computed twice, for memory"),
  ),
  *section(
    "loss",
    QUERIES,
    Field("category_weight", 2.0, AMOUNT),
    Field("category_cost", 2.0, AMOUNT, "its weight in matching"),
    Field("mask_weight", 5.0, AMOUNT),
    Field("dice_weight", 5.0, AMOUNT),
    Field("no_object_weight", 0.1, FACTOR, "of queries without an object"),
    Field("num_points", 12544, POSITIVE, "where a mask's loss is taken"),
    Field("oversample_ratio", 3.0, AT_LEAST_ONE, "candidates, by points"),
    Field("importance_sample_ratio", 0.75, SHARE, "the least sure ones"),
  ),
  *section(
    "decode",
    QUERIES,
    Field("things", None, optional(each(COUNT)), "labels; None: all"),
    Field("min_score", 0.8, SHARE, "panoptic: of a query ..."),
    Field("min_visible", 0.8, SHARE, "... and the part of it not covered"),
  ),
)
