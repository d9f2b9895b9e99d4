r"""Writes COCO annotations of a few classes, to stand for your own photographs.

python benchmarks/photographs.py --source=../shared/data/coco_sample \
    --classes=person,chair --out=photographs
python -m solo_jax.prepare --dataset=coco_instances --name=two_classes \
    --train_annotations=photographs/train2017.json \
    --train_images=../shared/data/coco_sample/train2017 \
    --validation_annotations=photographs/val2017.json \
    --validation_images=../shared/data/coco_sample/val2017

Images without an instance of the classes are left out.
"""

import json
import pathlib

from absl import app, flags

_SOURCE = flags.DEFINE_string("source", None, "COCO folder.", required=True)
_CLASSES = flags.DEFINE_list("classes", ["person", "chair"], "Names to keep.")
_OUT = flags.DEFINE_string("out", None, "Folder to write.", required=True)


def keep_classes(annotations: dict, names: list[str]) -> dict:
  """Returns the annotations of some classes, and the images that have one."""
  classes = [x for x in annotations["categories"] if x["name"] in names]
  kept = {x["id"] for x in classes}
  instances = [
    x for x in annotations["annotations"] if x["category_id"] in kept
  ]
  ids = {x["image_id"] for x in instances}
  return dict(
    categories=classes,
    annotations=instances,
    images=[x for x in annotations["images"] if x["id"] in ids],
  )


def main(_) -> None:
  out = pathlib.Path(_OUT.value)
  out.mkdir(parents=True, exist_ok=True)
  for split in ("train2017", "val2017"):
    path = pathlib.Path(_SOURCE.value) / f"annotations/instances_{split}.json"
    kept = keep_classes(json.loads(path.read_text()), _CLASSES.value)
    (out / f"{split}.json").write_text(json.dumps(kept))
    print(
      f"{split}: {len(kept['images'])} images, "
      f"{len(kept['annotations'])} annotations"
    )


if __name__ == "__main__":
  app.run(main)
