"""The rows of published.py of Mask R-CNN, its cascades, HTC and PointRend.

Of each: name, mask AP and megabytes; the config there and the file; our config.
Of mmdetection's files some are known by the ending of their names only; these
have a page and no address.
"""

from solo_jax.published_rows import in_openmmlab, make_rows

_DETECTRON2 = "https://dl.fbaipublicfiles.com/detectron2/"
_TORCHVISION = "https://download.pytorch.org/models/"
_MMDET_PAGE = "https://github.com/open-mmlab/mmdetection/tree/main/configs/"


def _read(ending, text, config):
  """Returns rows of a text with three lines a row."""
  lines = iter(text.split("\n")[1:-1])
  for first, there, ours in zip(lines, lines, lines, strict=True):
    name, ap, megabytes = first.split()
    original, file = there.split()
    yield (
      f"{name}_{ending}",
      original,
      file,
      f"{config}{ours.strip()}",
      float(ap),
      int(megabytes),
    )


def _detectron2(folder, config, text):
  return make_rows(
    "detectron2",
    "CC BY-SA 3.0",
    "https://github.com/facebookresearch/detectron2/blob/main/MODEL_ZOO.md",
    lambda file: _DETECTRON2 + file,
    [
      (name, original, f"{folder}/{original}/{file}", *rest)
      for name, original, file, *rest in _read("detectron2", text, config)
    ],
  )


def _mmdet(folder, config, text):
  address = in_openmmlab(folder)
  return make_rows(
    "mmdetection 3",
    "Apache-2.0",
    _MMDET_PAGE + folder,
    lambda file: None if file.startswith("...") else address(file),
    _read("mmdet", text, config),
  )


REGIONS = (
  *make_rows(
    "torchvision",
    "BSD-3-Clause",
    "https://docs.pytorch.org/vision/stable/models/mask_rcnn.html",
    lambda file: _TORCHVISION + file,
    _read(
      "torchvision",
      """
mask_rcnn_r50 34.6 178
  maskrcnn_resnet50_fpn maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth
  mask_rcnn_coco.py:recipe=torchvision,backbone=r50,schedule=26ep,outputs=90
mask_rcnn_v2_r50 41.8 186
  maskrcnn_resnet50_fpn_v2 maskrcnn_resnet50_fpn_v2_coco-73cbd019.pth
  mask_rcnn_lsj_coco.py:recipe=torchvision_v2,outputs=90
""",
      "",
    ),
  ),
  *_detectron2(
    "COCO-InstanceSegmentation",
    "mask_rcnn_coco.py:recipe=detectron2,",
    """
mask_rcnn_r50_1x 35.2 178
  mask_rcnn_R_50_FPN_1x 137260431/model_final_a54504.pkl
  backbone=r50,schedule=1x
mask_rcnn_r50_3x 37.2 178
  mask_rcnn_R_50_FPN_3x 137849600/model_final_f10217.pkl
  backbone=r50,schedule=3x
mask_rcnn_r101_3x 38.6 254
  mask_rcnn_R_101_FPN_3x 138205316/model_final_a3ec72.pkl
  backbone=r101,schedule=3x
mask_rcnn_x101_32x8d_3x 39.5 431
  mask_rcnn_X_101_32x8d_FPN_3x 139653917/model_final_2d9806.pkl
  backbone=x101_32x8d,schedule=3x
""",
  ),
  *_detectron2(
    "new_baselines",
    "mask_rcnn_lsj_coco.py:recipe=detectron2,",
    """
mask_rcnn_r50_100ep 40.3 185
  mask_rcnn_R_50_FPN_100ep_LSJ 42047764/model_final_bb69de.pkl
  schedule=100ep
mask_rcnn_r50_200ep 41.7 185
  mask_rcnn_R_50_FPN_200ep_LSJ 42047638/model_final_89a8d3.pkl
  schedule=200ep
mask_rcnn_r50_400ep 42.5 185
  mask_rcnn_R_50_FPN_400ep_LSJ 42019571/model_final_14d201.pkl
  schedule=400ep
""",
  ),
  *_detectron2(
    "Misc",
    "",
    """
mask_rcnn_r50_gn_3x 38.6 183
  mask_rcnn_R_50_FPN_3x_gn 138602888/model_final_dc5d9e.pkl
  mask_rcnn_lsj_coco.py:recipe=detectron2_gn,schedule=3x
cascade_mask_rcnn_r50_1x 36.4 288
  cascade_mask_rcnn_R_50_FPN_1x 138602847/model_final_e9d89b.pkl
  cascade_mask_rcnn_coco.py:recipe=detectron2,backbone=r50,schedule=1x
cascade_mask_rcnn_r50_3x 38.5 288
  cascade_mask_rcnn_R_50_FPN_3x 144998488/model_final_480dd8.pkl
  cascade_mask_rcnn_coco.py:recipe=detectron2,backbone=r50,schedule=3x
""",
  ),
  *_detectron2(
    "PointRend/InstanceSegmentation",
    "point_rend_coco.py:recipe=detectron2,",
    """
point_rend_r50_1x 36.2 241
  pointrend_rcnn_R_50_FPN_1x_coco 164254221/model_final_736f5a.pkl
  backbone=r50_caffe,schedule=1x
point_rend_r50_3x 38.3 241
  pointrend_rcnn_R_50_FPN_3x_coco 164955410/model_final_edd263.pkl
  backbone=r50_caffe,schedule=3x
point_rend_r101_3x 40.1 317
  pointrend_rcnn_R_101_FPN_3x_coco 28119983/model_final_3f4d2a.pkl
  backbone=r101_caffe,schedule=3x
point_rend_x101_32x8d_3x 41.1 495
  pointrend_rcnn_X_101_32x8d_FPN_3x_coco 28119989/model_final_ba17b9.pkl
  backbone=x101_32x8d,schedule=3x
""",
  ),
  *_mmdet(
    "mask_rcnn",
    "mask_rcnn_coco.py:recipe=mmdet,",
    """
mask_rcnn_r50_1x 34.7 178
  mask-rcnn_r50_fpn_1x_coco mask_rcnn_r50_fpn_1x_coco_20200205-d4b0c5d6.pth
  backbone=r50,schedule=1x
mask_rcnn_r50_2x 35.4 178
  mask-rcnn_r50_fpn_2x_coco ...003907-3e542a40.pth
  backbone=r50,schedule=2x
mask_rcnn_r50_3x 37.1 178
  mask-rcnn_r50_fpn_ms-poly-3x_coco ...20210524_201154-21b550bb.pth
  backbone=r50,schedule=3x
mask_rcnn_r50_caffe_1x 34.4 178
  mask-rcnn_r50-caffe_fpn_1x_coco ...231812-0ebd1859.pth
  backbone=r50_caffe,schedule=1x
mask_rcnn_r50_caffe_3x 37.0 178
  mask-rcnn_r50-caffe_fpn_ms-poly-3x_coco ...163245-42aa3d00.pth
  backbone=r50_caffe,schedule=3x
mask_rcnn_r101_1x 36.1 254
  mask-rcnn_r101_fpn_1x_coco ...-1efe0ed5.pth
  backbone=r101,schedule=1x
mask_rcnn_r101_2x 36.6 254
  mask-rcnn_r101_fpn_2x_coco ...-14b391c7.pth
  backbone=r101,schedule=2x
mask_rcnn_r101_3x 38.5 254
  mask-rcnn_r101_fpn_ms-poly-3x_coco ...-5675c317.pth
  backbone=r101,schedule=3x
mask_rcnn_x101_32x4d_1x 37.5 253
  mask-rcnn_x101-32x4d_fpn_1x_coco ...-478d0b67.pth
  backbone=x101_32x4d,schedule=1x
mask_rcnn_x101_32x4d_2x 37.8 253
  mask-rcnn_x101-32x4d_fpn_2x_coco ...-faef898c.pth
  backbone=x101_32x4d,schedule=2x
mask_rcnn_x101_32x4d_3x 39.0 253
  mask-rcnn_x101-32x4d_fpn_ms-poly-3x_coco ...-abcd7859.pth
  backbone=x101_32x4d,schedule=3x
mask_rcnn_x101_64x4d_1x 38.4 410
  mask-rcnn_x101-64x4d_fpn_1x_coco ...-9352eb0d.pth
  backbone=x101_64x4d,schedule=1x
mask_rcnn_x101_64x4d_2x 38.1 410
  mask-rcnn_x101-64x4d_fpn_2x_coco ...-39d6f70c.pth
  backbone=x101_64x4d,schedule=2x
mask_rcnn_x101_64x4d_3x 39.7 410
  mask-rcnn_x101-64x4d_fpn_ms-poly_3x_coco ...-c376f129.pth
  backbone=x101_64x4d,schedule=3x
mask_rcnn_x101_32x8d_1x 38.3 431
  mask-rcnn_x101-32x8d_fpn_1x_coco ...-0aaf329e.pth
  backbone=x101_32x8d,schedule=1x
mask_rcnn_x101_32x8d_ms_1x 39.0 431
  mask-rcnn_x101-32x8d_fpn_ms-poly-1x_coco ...-b4637974.pth
  backbone=x101_32x8d,schedule=1x
""",
  ),
  *_mmdet(
    "cascade_rcnn",
    "cascade_mask_rcnn_coco.py:recipe=mmdet,",
    """
cascade_mask_rcnn_r50_1x 35.9 310
  cascade-mask-rcnn_r50_fpn_1x_coco ...20200203-9d4dcb24.pth
  backbone=r50,schedule=1x
cascade_mask_rcnn_r50_20e 36.5 310
  cascade-mask-rcnn_r50_fpn_20e_coco ...174711-4af8e66e.pth
  backbone=r50,schedule=20e
cascade_mask_rcnn_r50_3x 38.5 310
  cascade-mask-rcnn_r50_fpn_ms-3x_coco ...20210628_164719-5bdc3824.pth
  backbone=r50,schedule=3x
cascade_mask_rcnn_r50_caffe_3x 38.1 310
  cascade-mask-rcnn_r50-caffe_fpn_ms-3x_coco ...20210707_002651-6e29b3a6.pth
  backbone=r50_caffe,schedule=3x
cascade_mask_rcnn_r101_1x 37.3 386
  cascade-mask-rcnn_r101_fpn_1x_coco ...-befdf6ee.pth
  backbone=r101,schedule=1x
cascade_mask_rcnn_r101_20e 37.8 386
  cascade-mask-rcnn_r101_fpn_20e_coco ...-005947da.pth
  backbone=r101,schedule=20e
cascade_mask_rcnn_r101_3x 39.6 386
  cascade-mask-rcnn_r101_fpn_ms-3x_coco ...-51a2d363.pth
  backbone=r101,schedule=3x
cascade_mask_rcnn_x101_32x4d_1x 38.3 384
  cascade-mask-rcnn_x101-32x4d_fpn_1x_coco ...-0f411b1f.pth
  backbone=x101_32x4d,schedule=1x
cascade_mask_rcnn_x101_32x4d_20e 39.0 384
  cascade-mask-rcnn_x101-32x4d_fpn_20e_coco ...-ed1f4751.pth
  backbone=x101_32x4d,schedule=20e
cascade_mask_rcnn_x101_32x4d_3x 40.1 384
  cascade-mask-rcnn_x101-32x4d_fpn_ms-3x_coco ...-40773067.pth
  backbone=x101_32x4d,schedule=3x
cascade_mask_rcnn_x101_64x4d_1x 39.2 542
  cascade-mask-rcnn_x101-64x4d_fpn_1x_coco ...-9a2db89d.pth
  backbone=x101_64x4d,schedule=1x
cascade_mask_rcnn_x101_64x4d_20e 39.5 542
  cascade-mask-rcnn_x101-64x4d_fpn_20e_coco ...-bdb5126a.pth
  backbone=x101_64x4d,schedule=20e
cascade_mask_rcnn_x101_64x4d_3x 40.3 542
  cascade-mask-rcnn_x101-64x4d_fpn_ms-3x_coco ...-d3e64ba0.pth
  backbone=x101_64x4d,schedule=3x
""",
  ),
  *_mmdet(
    "htc",
    "htc_coco.py:",
    """
htc_r50_1x 37.4 321
  htc_r50_fpn_1x_coco ...-7332cf16.pth
  backbone=r50,schedule=1x
htc_r50_20e 38.3 321
  htc_r50_fpn_20e_coco ...-fe28c577.pth
  backbone=r50,schedule=20e
htc_r101_20e 39.6 397
  htc_r101_fpn_20e_coco ...-9b41b48f.pth
  backbone=r101,schedule=20e
htc_x101_32x4d_20e 40.5 396
  htc_x101-32x4d_fpn_16xb1-20e_coco ...-de97ae01.pth
  backbone=x101_32x4d,schedule=20e
htc_x101_64x4d_20e 41.4 553
  htc_x101-64x4d_fpn_16xb1-20e_coco ...-b181fd7a.pth
  backbone=x101_64x4d,schedule=20e
htc_x101_64x4d_dcn_20e 43.8 574
  htc_x101-64x4d-dconv-c3-c5_fpn_ms-400-1400-16xb1-20e_coco ...-946fd751.pth
  backbone=x101_64x4d_dcn,schedule=20e
""",
  ),
  *_mmdet(
    "point_rend",
    "point_rend_coco.py:recipe=mmdet,",
    """
point_rend_r50_caffe_1x 36.3 241
  point-rend_r50-caffe_fpn_ms-1x_coco ...-1bcb5fb4.pth
  backbone=r50_caffe,schedule=1x
point_rend_r50_caffe_3x 38.0 241
  point-rend_r50-caffe_fpn_ms-3x_coco ...-e0ebb6b7.pth
  backbone=r50_caffe,schedule=3x
""",
  ),
)
