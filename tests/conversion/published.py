"""The layouts of the published checkpoints of the SOLO family, by short name.

All else about them is in solo_jax/published.py.
"""

from layouts import Checkpoint

from solo_jax import published

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

LAYOUTS = {
  "solov2_r50_1x_official": SOLOV2 | R50,
  "solov2_r50_3x_official": SOLOV2 | R50,
  "solov2_r101_3x_official": SOLOV2 | R101,
  "solov2_r101_dcn_3x_official": SOLOV2 | R101 | DCN,
  "solov2_x101_dcn_3x_official": SOLOV2 | X101 | DCN,
  "solov2_light_448_r18_3x_official": LIGHT | dict(depth=18),
  "solov2_light_448_r34_3x_official": LIGHT | dict(depth=34),
  "solov2_light_448_r50_3x_official": LIGHT | dict(depth=50),
  "solov2_light_512_dcn_r50_3x_official": LIGHT_512 | R50 | LAST_DCN,
  "solo_r50_1x_official": SOLO | R50,
  "solo_r50_3x_official": SOLO | R50,
  "solo_r101_3x_official": SOLO | R101,
  "decoupled_solo_r50_1x_official": DECOUPLED | R50,
  "decoupled_solo_r50_3x_official": DECOUPLED | R50,
  "decoupled_solo_r101_3x_official": DECOUPLED | R101,
  "decoupled_solo_light_r50_3x_official": DECOUPLED_LIGHT | R50,
  "decoupled_solo_light_dcn_r50_3x_official": DECOUPLED_LIGHT | R50 | LAST_DCN,
  "solov2_r50_3x_adelaidet": SOLOV2 | R50,
  "solov2_r101_3x_adelaidet": SOLOV2 | R101,
  "solo_r50_1x": SOLO | R50,
  "solo_r50_3x": SOLO | R50,
  "decoupled_solo_r50_1x": DECOUPLED | R50,
  "decoupled_solo_r50_3x": DECOUPLED | R50,
  "decoupled_solo_light_r50_3x": DECOUPLED_LIGHT | R50,
  "solov2_r50_1x": SOLOV2 | R50,
  "solov2_r50_3x": SOLOV2 | R50,
  "solov2_r101_dcn_3x": SOLOV2 | R101 | DCN,
  "solov2_x101_dcn_3x": SOLOV2 | X101 | DCN,
  "solov2_light_r18_3x": LIGHT | dict(depth=18),
  "solov2_light_r50_3x": LIGHT | dict(depth=50),
}

FAMILIES = {
  "WXinlong/SOLO": "solo_official",
  "AdelaiDet": "adelaidet",
  "mmdetection 3": "mmdet",
}
CHECKPOINTS = tuple(
  Checkpoint(
    name=row.name,
    megabytes=row.megabytes,
    family=FAMILIES[row.code_base],
    config=row.config,
    published_ap=row.ap,
    **LAYOUTS[row.name],
  )
  for row in published.PUBLISHED
  if row.name in LAYOUTS
)
assert len(CHECKPOINTS) == len(LAYOUTS) == 30
