"""The 30 published checkpoints: 17 official, 2 of AdelaiDet, 11 of mmdetection.

Rows: name of its config there, what it is published as (file, or name in the
list of models), our config, what its layout needs, published AP.
"""

from layouts import Checkpoint

R50 = dict(depth=50)
R101 = dict(depth=101)
X101 = dict(depth=101, groups=64)
DCN = dict(dcn="v2")
LAST_DCN = dict(dcn="v1", dcn_everywhere=False)
SOLOV2 = dict(method="solov2", convs=4, width=512)
LIGHT = dict(method="solov2", convs=2, width=256, kernel=128)
LIGHT_512 = LIGHT | dict(convs=3)
SOLO = dict(method="solo", convs=7, width=256)
DECOUPLED = dict(method="decoupled_solo", convs=7, width=256)
DECOUPLED_LIGHT = DECOUPLED | dict(convs=4, is_light=True)

OFFICIAL = (
  (
    "solov2_r50_fpn_8gpu_1x",
    "SOLOv2_R50_1x",
    "solov2_coco:backbone=r50,recipe=official,schedule=1x",
    SOLOV2 | R50,
    34.8,
  ),
  (
    "solov2_r50_fpn_8gpu_3x",
    "SOLOv2_R50_3x",
    "solov2_coco:backbone=r50,recipe=official,schedule=3x",
    SOLOV2 | R50,
    37.5,
  ),
  (
    "solov2_r101_fpn_8gpu_3x",
    "SOLOv2_R101_3x",
    "solov2_coco:backbone=r101,recipe=official,schedule=3x",
    SOLOV2 | R101,
    39.1,
  ),
  (
    "solov2_r101_dcn_fpn_8gpu_3x",
    "SOLOv2_R101_DCN_3x",
    "solov2_coco:backbone=r101_dcn,recipe=official,schedule=3x",
    SOLOV2 | R101 | DCN,
    41.4,
  ),
  (
    "solov2_x101_dcn_fpn_8gpu_3x",
    "SOLOv2_X101_DCN_3x",
    "solov2_coco:backbone=x101_dcn,recipe=official,schedule=3x",
    SOLOV2 | X101 | DCN,
    42.4,
  ),
  (
    "solov2_light_448_r18_fpn_8gpu_3x",
    "SOLOv2_Light_448_R18_3x",
    "solov2_light_coco:backbone=r18,recipe=official",
    LIGHT | dict(depth=18),
    29.6,
  ),
  (
    "solov2_light_448_r34_fpn_8gpu_3x",
    "SOLOv2_Light_448_R34_3x",
    "solov2_light_coco:backbone=r34,recipe=official",
    LIGHT | dict(depth=34),
    32.0,
  ),
  (
    "solov2_light_448_r50_fpn_8gpu_3x",
    "SOLOv2_Light_448_R50_3x",
    "solov2_light_coco:backbone=r50,recipe=official",
    LIGHT | dict(depth=50),
    33.7,
  ),
  (
    "solov2_light_512_dcn_r50_fpn_8gpu_3x",
    "SOLOv2_Light_512_DCN_R50_3x",
    "solov2_light_coco:backbone=r50_dcn,recipe=official",
    LIGHT_512 | R50 | LAST_DCN,
    36.4,
  ),
  (
    "solo_r50_fpn_8gpu_1x",
    "SOLO_R50_1x",
    "solo_coco:backbone=r50,recipe=official,schedule=1x",
    SOLO | R50,
    32.9,
  ),
  (
    "solo_r50_fpn_8gpu_3x",
    "SOLO_R50_3x",
    "solo_coco:backbone=r50,recipe=official,schedule=3x",
    SOLO | R50,
    35.8,
  ),
  (
    "solo_r101_fpn_8gpu_3x",
    "SOLO_R101_3x",
    "solo_coco:backbone=r101,recipe=official,schedule=3x",
    SOLO | R101,
    37.1,
  ),
  (
    "decoupled_solo_r50_fpn_8gpu_1x",
    "Decoupled_SOLO_R50_1x",
    "decoupled_solo_coco:backbone=r50,recipe=official,schedule=1x",
    DECOUPLED | R50,
    33.9,
  ),
  (
    "decoupled_solo_r50_fpn_8gpu_3x",
    "Decoupled_SOLO_R50_3x",
    "decoupled_solo_coco:backbone=r50,recipe=official,schedule=3x",
    DECOUPLED | R50,
    36.4,
  ),
  (
    "decoupled_solo_r101_fpn_8gpu_3x",
    "Decoupled_SOLO_R101_3x",
    "decoupled_solo_coco:backbone=r101,recipe=official,schedule=3x",
    DECOUPLED | R101,
    37.9,
  ),
  (
    "decoupled_solo_light_r50_fpn_8gpu_3x",
    "Decoupled_SOLO_Light_R50_3x",
    "decoupled_solo_light_coco:backbone=r50,recipe=official",
    DECOUPLED_LIGHT | R50,
    33.0,
  ),
  (
    "decoupled_solo_light_dcn_r50_fpn_8gpu_3x",
    "Decoupled_SOLO_Light_DCN_R50_3x",
    "decoupled_solo_light_coco:backbone=r50_dcn,recipe=official",
    DECOUPLED_LIGHT | R50 | LAST_DCN,
    35.0,
  ),
)

ADELAIDET = (
  (
    "SOLOv2_R50_3x",
    "SOLOv2_R50_3x",
    "solov2_coco:backbone=r50,recipe=adelaidet,schedule=3x",
    SOLOV2 | R50,
    37.6,
  ),
  (
    "SOLOv2_R101_3x",
    "SOLOv2_R101_3x",
    "solov2_coco:backbone=r101,recipe=adelaidet,schedule=3x",
    SOLOV2 | R101,
    39.0,
  ),
)

MMDET = (
  (
    "solo_r50_fpn_1x_coco",
    "solo_r50_fpn_1x_coco_20210821_035055-2290a6b8.pth",
    "solo_coco:backbone=r50,recipe=mmdet,schedule=1x",
    SOLO | R50,
    33.1,
  ),
  (
    "solo_r50_fpn_3x_coco",
    "solo_r50_fpn_3x_coco_20210901_012353-11d224d7.pth",
    "solo_coco:backbone=r50,recipe=mmdet,schedule=3x",
    SOLO | R50,
    35.9,
  ),
  (
    "decoupled-solo_r50_fpn_1x_coco",
    "decoupled_solo_r50_fpn_1x_coco_20210820_233348-6337c589.pth",
    "decoupled_solo_coco:backbone=r50,recipe=mmdet,schedule=1x",
    DECOUPLED | R50,
    33.9,
  ),
  (
    "decoupled-solo_r50_fpn_3x_coco",
    "decoupled_solo_r50_fpn_3x_coco_20210821_042504-7b3301ec.pth",
    "decoupled_solo_coco:backbone=r50,recipe=mmdet,schedule=3x",
    DECOUPLED | R50,
    36.7,
  ),
  (
    "decoupled-solo-light_r50_fpn_3x_coco",
    "decoupled_solo_light_r50_fpn_3x_coco_20210906_142703-e70e226f.pth",
    "decoupled_solo_light_coco:backbone=r50,recipe=mmdet",
    DECOUPLED_LIGHT | R50,
    32.9,
  ),
  (
    "solov2_r50_fpn_1x_coco",
    "solov2_r50_fpn_1x_coco_20220512_125858-a357fa23.pth",
    "solov2_coco:backbone=r50,recipe=mmdet,schedule=1x",
    SOLOV2 | R50,
    34.8,
  ),
  (
    "solov2_r50_fpn_ms-3x_coco",
    "solov2_r50_fpn_3x_coco_20220512_125856-fed092d4.pth",
    "solov2_coco:backbone=r50,recipe=mmdet,schedule=3x",
    SOLOV2 | R50,
    37.5,
  ),
  (
    "solov2_r101-dcn_fpn_ms-3x_coco",
    "solov2_r101_dcn_fpn_3x_coco_20220513_214734-16c966cb.pth",
    "solov2_coco:backbone=r101_dcn,recipe=mmdet,schedule=3x",
    SOLOV2 | R101 | DCN,
    41.2,
  ),
  (
    "solov2_x101-dcn_fpn_ms-3x_coco",
    "solov2_x101_dcn_fpn_3x_coco_20220513_214337-aef41095.pth",
    "solov2_coco:backbone=x101_dcn,recipe=mmdet,schedule=3x",
    SOLOV2 | X101 | DCN,
    42.4,
  ),
  (
    "solov2-light_r18_fpn_ms-3x_coco",
    "solov2_light_r18_fpn_3x_coco_20220511_083717-75fa355b.pth",
    "solov2_light_coco:backbone=r18,recipe=mmdet",
    LIGHT | dict(depth=18),
    29.7,
  ),
  (
    "solov2-light_r50_fpn_ms-3x_coco",
    "solov2_light_r50_fpn_3x_coco_20220512_165256-c93a6074.pth",
    "solov2_light_coco:backbone=r50,recipe=mmdet",
    LIGHT | dict(depth=50),
    33.7,
  ),
)

CHECKPOINTS = tuple(
  Checkpoint(
    name=name,
    published_as=published_as,
    family=family,
    config=config,
    published_ap=ap,
    **spec,
  )
  for family, rows in (
    ("solo_official", OFFICIAL),
    ("adelaidet", ADELAIDET),
    ("mmdet", MMDET),
  )
  for name, published_as, config, spec, ap in rows
)
assert [len(OFFICIAL), len(ADELAIDET), len(MMDET)] == [17, 2, 11]
