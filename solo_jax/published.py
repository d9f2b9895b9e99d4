"""The published checkpoints that have a short name, in one table.

A name without an ending is of weights that anyone may download; those whose
authors keep them behind a web page, or of a method that several code bases
published, end in their code base. AP is what the code
base reports; nothing here was measured by this project.
"""

import difflib

from solo_jax.published_regions import REGIONS
from solo_jax.published_rows import Published, in_openmmlab, make_rows

COCO = "COCO val2017 mask AP"
_PYTORCH = "https://download.pytorch.org/models/"
_ACADEMIC = "BSD-2-Clause, academic use only"


OFFICIAL = make_rows(
  "WXinlong/SOLO",
  _ACADEMIC,
  "https://github.com/WXinlong/SOLO",
  lambda _: None,
  (
    (
      "solov2_r50_1x_official",
      "solov2_r50_fpn_8gpu_1x",
      "SOLOv2_R50_1x",
      "solov2_coco.py:backbone=r50,recipe=official,schedule=1x",
      34.8,
      187,
    ),
    (
      "solov2_r50_3x_official",
      "solov2_r50_fpn_8gpu_3x",
      "SOLOv2_R50_3x",
      "solov2_coco.py:backbone=r50,recipe=official,schedule=3x",
      37.5,
      187,
    ),
    (
      "solov2_r101_3x_official",
      "solov2_r101_fpn_8gpu_3x",
      "SOLOv2_R101_3x",
      "solov2_coco.py:backbone=r101,recipe=official,schedule=3x",
      39.1,
      263,
    ),
    (
      "solov2_r101_dcn_3x_official",
      "solov2_r101_dcn_fpn_8gpu_3x",
      "SOLOv2_R101_DCN_3x",
      "solov2_coco.py:backbone=r101_dcn,recipe=official,schedule=3x",
      41.4,
      275,
    ),
    (
      "solov2_x101_dcn_3x_official",
      "solov2_x101_dcn_fpn_8gpu_3x",
      "SOLOv2_X101_DCN_3x",
      "solov2_coco.py:backbone=x101_dcn,recipe=official,schedule=3x",
      42.4,
      454,
    ),
    (
      "solov2_light_448_r18_3x_official",
      "solov2_light_448_r18_fpn_8gpu_3x",
      "SOLOv2_Light_448_R18_3x",
      "solov2_light_coco.py:backbone=r18,recipe=official",
      29.6,
      73,
    ),
    (
      "solov2_light_448_r34_3x_official",
      "solov2_light_448_r34_fpn_8gpu_3x",
      "SOLOv2_Light_448_R34_3x",
      "solov2_light_coco.py:backbone=r34,recipe=official",
      32.0,
      114,
    ),
    (
      "solov2_light_448_r50_3x_official",
      "solov2_light_448_r50_fpn_8gpu_3x",
      "SOLOv2_Light_448_R50_3x",
      "solov2_light_coco.py:backbone=r50,recipe=official",
      33.7,
      126,
    ),
    (
      "solov2_light_512_dcn_r50_3x_official",
      "solov2_light_512_dcn_r50_fpn_8gpu_3x",
      "SOLOv2_Light_512_DCN_R50_3x",
      "solov2_light_coco.py:backbone=r50_dcn,recipe=official",
      36.4,
      133,
    ),
    (
      "solo_r50_1x_official",
      "solo_r50_fpn_8gpu_1x",
      "SOLO_R50_1x",
      "solo_coco.py:backbone=r50,recipe=official,schedule=1x",
      32.9,
      145,
    ),
    (
      "solo_r50_3x_official",
      "solo_r50_fpn_8gpu_3x",
      "SOLO_R50_3x",
      "solo_coco.py:backbone=r50,recipe=official,schedule=3x",
      35.8,
      145,
    ),
    (
      "solo_r101_3x_official",
      "solo_r101_fpn_8gpu_3x",
      "SOLO_R101_3x",
      "solo_coco.py:backbone=r101,recipe=official,schedule=3x",
      37.1,
      222,
    ),
    (
      "decoupled_solo_r50_1x_official",
      "decoupled_solo_r50_fpn_8gpu_1x",
      "Decoupled_SOLO_R50_1x",
      "decoupled_solo_coco.py:backbone=r50,recipe=official,schedule=1x",
      33.9,
      160,
    ),
    (
      "decoupled_solo_r50_3x_official",
      "decoupled_solo_r50_fpn_8gpu_3x",
      "Decoupled_SOLO_R50_3x",
      "decoupled_solo_coco.py:backbone=r50,recipe=official,schedule=3x",
      36.4,
      160,
    ),
    (
      "decoupled_solo_r101_3x_official",
      "decoupled_solo_r101_fpn_8gpu_3x",
      "Decoupled_SOLO_R101_3x",
      "decoupled_solo_coco.py:backbone=r101,recipe=official,schedule=3x",
      37.9,
      237,
    ),
    (
      "decoupled_solo_light_r50_3x_official",
      "decoupled_solo_light_r50_fpn_8gpu_3x",
      "Decoupled_SOLO_Light_R50_3x",
      "decoupled_solo_light_coco.py:backbone=r50,recipe=official",
      33.0,
      130,
    ),
    (
      "decoupled_solo_light_dcn_r50_3x_official",
      "decoupled_solo_light_dcn_r50_fpn_8gpu_3x",
      "Decoupled_SOLO_Light_DCN_R50_3x",
      "decoupled_solo_light_coco.py:backbone=r50_dcn,recipe=official",
      35.0,
      132,
    ),
  ),
)
ADELAIDET = make_rows(
  "AdelaiDet",
  _ACADEMIC,
  "https://github.com/aim-uofa/AdelaiDet/tree/master/configs/SOLOv2",
  lambda _: None,
  (
    (
      "solov2_r50_3x_adelaidet",
      "SOLOv2_R50_3x",
      "SOLOv2_R50_3x",
      "solov2_coco.py:backbone=r50,recipe=adelaidet,schedule=3x",
      37.6,
      187,
    ),
    (
      "solov2_r101_3x_adelaidet",
      "SOLOv2_R101_3x",
      "SOLOv2_R101_3x",
      "solov2_coco.py:backbone=r101,recipe=adelaidet,schedule=3x",
      39.0,
      263,
    ),
  ),
)
MMDET_SOLO = make_rows(
  "mmdetection 3",
  "Apache-2.0",
  "https://github.com/open-mmlab/mmdetection/tree/main/configs/solo",
  in_openmmlab("solo"),
  (
    (
      "solo_r50_1x",
      "solo_r50_fpn_1x_coco",
      "solo_r50_fpn_1x_coco_20210821_035055-2290a6b8.pth",
      "solo_coco.py:backbone=r50,recipe=mmdet,schedule=1x",
      33.1,
      145,
    ),
    (
      "solo_r50_3x",
      "solo_r50_fpn_3x_coco",
      "solo_r50_fpn_3x_coco_20210901_012353-11d224d7.pth",
      "solo_coco.py:backbone=r50,recipe=mmdet,schedule=3x",
      35.9,
      145,
    ),
    (
      "decoupled_solo_r50_1x",
      "decoupled-solo_r50_fpn_1x_coco",
      "decoupled_solo_r50_fpn_1x_coco_20210820_233348-6337c589.pth",
      "decoupled_solo_coco.py:backbone=r50,recipe=mmdet,schedule=1x",
      33.9,
      160,
    ),
    (
      "decoupled_solo_r50_3x",
      "decoupled-solo_r50_fpn_3x_coco",
      "decoupled_solo_r50_fpn_3x_coco_20210821_042504-7b3301ec.pth",
      "decoupled_solo_coco.py:backbone=r50,recipe=mmdet,schedule=3x",
      36.7,
      160,
    ),
    (
      "decoupled_solo_light_r50_3x",
      "decoupled-solo-light_r50_fpn_3x_coco",
      "decoupled_solo_light_r50_fpn_3x_coco_20210906_142703-e70e226f.pth",
      "decoupled_solo_light_coco.py:backbone=r50,recipe=mmdet",
      32.9,
      130,
    ),
  ),
)
MMDET_SOLOV2 = make_rows(
  "mmdetection 3",
  "Apache-2.0",
  "https://github.com/open-mmlab/mmdetection/tree/main/configs/solov2",
  in_openmmlab("solov2"),
  (
    (
      "solov2_r50_1x",
      "solov2_r50_fpn_1x_coco",
      "solov2_r50_fpn_1x_coco_20220512_125858-a357fa23.pth",
      "solov2_coco.py:backbone=r50,recipe=mmdet,schedule=1x",
      34.8,
      187,
    ),
    (
      "solov2_r50_3x",
      "solov2_r50_fpn_ms-3x_coco",
      "solov2_r50_fpn_3x_coco_20220512_125856-fed092d4.pth",
      "solov2_coco.py:backbone=r50,recipe=mmdet,schedule=3x",
      37.5,
      187,
    ),
    (
      "solov2_r101_dcn_3x",
      "solov2_r101-dcn_fpn_ms-3x_coco",
      "solov2_r101_dcn_fpn_3x_coco_20220513_214734-16c966cb.pth",
      "solov2_coco.py:backbone=r101_dcn,recipe=mmdet,schedule=3x",
      41.2,
      275,
    ),
    (
      "solov2_x101_dcn_3x",
      "solov2_x101-dcn_fpn_ms-3x_coco",
      "solov2_x101_dcn_fpn_3x_coco_20220513_214337-aef41095.pth",
      "solov2_coco.py:backbone=x101_dcn,recipe=mmdet,schedule=3x",
      42.4,
      454,
    ),
    (
      "solov2_light_r18_3x",
      "solov2-light_r18_fpn_ms-3x_coco",
      "solov2_light_r18_fpn_3x_coco_20220511_083717-75fa355b.pth",
      "solov2_light_coco.py:backbone=r18,recipe=mmdet",
      29.7,
      73,
    ),
    (
      "solov2_light_r50_3x",
      "solov2-light_r50_fpn_ms-3x_coco",
      "solov2_light_r50_fpn_3x_coco_20220512_165256-c93a6074.pth",
      "solov2_light_coco.py:backbone=r50,recipe=mmdet",
      33.7,
      126,
    ),
  ),
)
BACKBONES = make_rows(
  "torchvision",
  "BSD-3-Clause",
  "https://docs.pytorch.org/vision/stable/models.html",
  lambda file: _PYTORCH + file,
  tuple(
    (f"{file.partition('-')[0]}_torchvision", file.partition("-")[0], file)
    + (None, None, megabytes)
    for file, megabytes in (
      ("resnet18-f37072fd.pth", 47),
      ("resnet34-b627a593.pth", 87),
      ("resnet50-0676ba61.pth", 102),
      ("resnet101-63fe2227.pth", 179),
      ("resnet152-394f9c45.pth", 242),
      ("resnext101_64x4d-173b62eb.pth", 335),
    )
  ),
)
PUBLISHED = (
  *OFFICIAL,
  *ADELAIDET,
  *MMDET_SOLO,
  *MMDET_SOLOV2,
  *REGIONS,
  *BACKBONES,
)
_BY_TEXT = {row.name: row for row in PUBLISHED}
_BY_TEXT |= {row.source: row for row in PUBLISHED if row.source is not None}


def find(text: str) -> Published | None:
  """Returns the row of a name or of an address, None if there is none."""
  return _BY_TEXT.get(text)


def nearest(text: str) -> list[str]:
  """Returns up to three names that resemble a text, the nearest first."""
  names = [row.name for row in PUBLISHED]
  return difflib.get_close_matches(text.lower(), names, n=3, cutoff=0.4)
