"""Tests of solo_jax/methods/problems.py."""

from solo_jax.methods.problems import (
  find_group_problems,
  find_mask_frame_problems,
  find_mask_stride_problems,
)


def test_channels_must_split_into_groups():
  network = dict(num_groups=8, head_channels=32, mask_channels=36)
  assert find_group_problems(network, "head_channels") == []
  (line,) = find_group_problems(network, "head_channels", "mask_channels")
  assert line.startswith("network.mask_channels is 36; ") and "8" in line


def test_mask_strides_must_agree():
  def found(of_network, of_targets):
    return find_mask_stride_problems(
      dict(
        network=dict(mask_stride=of_network),
        transforms=dict(mask_stride=of_targets),
      )
    )

  assert found(4, 4) == found(2, 2) == []
  assert len(found(4, 2)) == 1 and "must be equal" in found(4, 2)[0]


def test_the_frame_of_masks_is_the_method_s_own():
  config = dict(method="solo", transforms=dict(mask_frame="image"))
  assert find_mask_frame_problems(config) == []
  config["transforms"]["mask_frame"] = "box"
  (line,) = find_mask_frame_problems(config)
  assert line.startswith("transforms.mask_frame is 'box'; solo ")
  assert line.endswith("set it to 'image'")
