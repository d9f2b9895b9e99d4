"""Writes deform_conv.npz: deformable convolution in PyTorch, float64.

Independent of solo_jax: every kernel point is one `grid_sample` with zeros
outside (torch 2.13.0, CPU). Arrays are in torch order, (N, C, H, W) and
(O, I, kH, kW), named <case>/<array>; config_json holds each case's arguments.

python tests/golden/make_deform_golden.py
"""

import json
import pathlib

import numpy as np
import torch
import torch.nn.functional as F

PATH = pathlib.Path(__file__).parent / "deform_conv.npz"

BASE = dict(
  batch=2,
  height=7,
  width=6,
  in_channels=4,
  out_channels=3,
  kernel_size=3,
  stride=1,
  padding=1,
  dilation=1,
  groups=1,
  deformable_groups=1,
  modulated=True,
  offset_scale=1.5,  # standard deviation, pixels
)
CASES = {
  "v1": BASE | dict(modulated=False),
  "v2": BASE,
  "far_outside": BASE | dict(offset_scale=12.0),
  "stride_2": BASE | dict(stride=2, height=8, width=9),
  "dilation_2": BASE | dict(dilation=2, padding=2),
  "deformable_groups_2": BASE | dict(deformable_groups=2),
  "groups_2": BASE | dict(groups=2, out_channels=6),
  "all_v1": BASE
  | dict(
    modulated=False,
    stride=2,
    padding=0,
    dilation=2,
    groups=4,
    deformable_groups=2,
    out_channels=8,
    kernel_size=2,
  ),
}


def deform_conv(x, offset, mask, kernel, config):
  """Sums grid_sample(x at one kernel point) times its kernel slice."""
  height, width = x.shape[-2:]
  size, groups = config["kernel_size"], config["deformable_groups"]
  out_height, out_width = offset.shape[-2:]
  stride, padding = config["stride"], config["padding"]
  base_y = torch.arange(out_height, dtype=x.dtype)[:, None] * stride - padding
  base_x = torch.arange(out_width, dtype=x.dtype)[None, :] * stride - padding
  total = 0
  for i in range(size):
    for j in range(size):
      samples = []
      for g, part in enumerate(x.chunk(groups, dim=1)):
        point = (g * size + i) * size + j
        y = base_y + i * config["dilation"] + offset[:, 2 * point]
        z = base_x + j * config["dilation"] + offset[:, 2 * point + 1]
        # align_corners=True: -1 is the first pixel's centre, 1 the last's.
        grid = torch.stack(
          [2 * z / (width - 1) - 1, 2 * y / (height - 1) - 1], dim=-1
        )
        sample = F.grid_sample(
          part, grid, mode="bilinear", padding_mode="zeros", align_corners=True
        )
        if mask is not None:
          sample = sample * mask[:, point, None]
        samples.append(sample)
      total = total + F.conv2d(
        torch.cat(samples, dim=1),
        kernel[:, :, i : i + 1, j : j + 1],
        groups=config["groups"],
      )
  return total


def make_case(rng, config):
  """Draws inputs, runs forward and backward, returns all arrays."""
  size = config["kernel_size"]
  out_size = [
    (n + 2 * config["padding"] - config["dilation"] * (size - 1) - 1)
    // config["stride"]
    + 1
    for n in (config["height"], config["width"])
  ]
  points = config["deformable_groups"] * size**2
  batch, channels = config["batch"], config["in_channels"]
  shapes = {
    "x": (batch, channels, config["height"], config["width"]),
    "offset": (batch, 2 * points, *out_size),
    "mask": (batch, points, *out_size),
    "kernel": (
      config["out_channels"],
      channels // config["groups"],
      size,
      size,
    ),
  }
  arrays = {k: rng.standard_normal(v, np.float32) for k, v in shapes.items()}
  arrays["offset"] *= np.float32(config["offset_scale"])
  arrays["mask"] = 1 / (1 + np.exp(-arrays["mask"]))
  if not config["modulated"]:
    del arrays["mask"]
  tensors = {
    name: torch.from_numpy(value).double().requires_grad_()
    for name, value in arrays.items()
  }
  y = deform_conv(
    tensors["x"],
    tensors["offset"],
    tensors.get("mask"),
    tensors["kernel"],
    config,
  )
  weight = rng.standard_normal(y.shape, np.float32)
  y.backward(torch.from_numpy(weight).double())
  arrays |= {"y": y.detach().numpy(), "y_gradient": weight}
  for name, tensor in tensors.items():
    arrays[f"{name}_gradient"] = tensor.grad.numpy()
  return {name: value.astype(np.float32) for name, value in arrays.items()}


def main():
  rng = np.random.default_rng(0)
  arrays = {"config_json": np.asarray(json.dumps(CASES))}
  for case, config in CASES.items():
    for name, value in make_case(rng, config).items():
      arrays[f"{case}/{name}"] = value
  np.savez_compressed(PATH, **arrays)
  print(f"{PATH}: {PATH.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
  main()
