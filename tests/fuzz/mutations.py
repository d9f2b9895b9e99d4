"""Small data sets and what may be wrong with them, drawn from a generator.

Every function takes a `numpy.random.Generator`, so that a case is known by its
number alone.
"""

import copy
import io
import json
import math
import stat
import struct
import zipfile
import zlib

import cv2
import numpy as np
import PIL.Image
from pycocotools import mask as coco_mask

HEIGHT, WIDTH = 20, 30
SIZE = [HEIGHT, WIDTH]


def _nested(depth):
  value = []
  for _ in range(depth):
    value = [value]
  return value


# What stands in JSON where something else was expected.
VALUES = (
  *(None, True, False, 0, -1, 1, 7, 0.5, -0.0, 1e308, 5e-324, 1e-9),
  *(math.nan, math.inf, -math.inf, 10**400, -(10**400), int("9" * 4300)),
  *(2**31 - 1, 2**31, 2**32, 2**53 + 1, 2**63 - 1, 2**63, -(2**63) - 1, 2**64),
  *("", "a", "7.png", "\x00", "\ud800", "a\nb", "\x1b[31m", "[/b]", "\u202e"),
  *("../../7.png", "/etc/passwd", "./images/../7.png", "images", "C:\\x.png"),
  *("é", "e\u0301", "核 🦠.png", "x" * 5000, "0", "P" * 2000 + "0"),
  *([], [[]], [[], []], {}, {"": None}, [math.nan] * 6, [[1e9] * 6]),
  *([0] * 1000, [[0, 0] * 500], {"size": SIZE, "counts": [600]}),
  *({"size": [2**16, 2**16], "counts": [2**32]}, {"size": SIZE}),
  *({"size": [10**9, 10**9], "counts": "0"}, {"counts": "o" * 4000}),
  *(_nested(100), _nested(400)),
)


def make_masks(rng):
  """Draws a mask for each form of segmentation. [4, HEIGHT, WIDTH] uint8."""
  masks = np.zeros((4, *SIZE), np.uint8)
  for mask in masks:
    y, x = rng.integers(0, HEIGHT - 4), rng.integers(0, WIDTH - 4)
    mask[y : y + rng.integers(2, 9), x : x + rng.integers(2, 9)] = 1
  masks[2:] &= rng.random((2, *SIZE)) < 0.9
  return masks


def make_coco(rng, file_names):
  """Draws the content of a sound COCO file with every form of segmentation."""
  images, annotations = [], []
  for key, name in enumerate(file_names, 7):
    images.append(dict(id=key, file_name=name, height=HEIGHT, width=WIDTH))
    for form, mask in enumerate(make_masks(rng)):
      rle = coco_mask.encode(np.asfortranarray(mask))
      x, y, width, height = coco_mask.toBbox(rle).tolist()
      box = [x, y, x + width, y, x + width, y + height, x, y + height]
      runs = np.diff(
        np.flatnonzero(np.diff(mask.T.ravel(), prepend=0)),
        prepend=0,
        append=mask.size,
      )
      # Numbers of Python, which JSON takes.
      segmentation = [
        [box],
        [box, [1, 1, 6, 1, 6, 6]],
        dict(size=SIZE, counts=rle["counts"].decode()),
        dict(size=SIZE, counts=[int(run) for run in runs]),
      ][form]
      if rng.random() < 0.1:
        segmentation = [
          box,
          [box[i : i + 2] for i in range(0, 8, 2)],
          dict(size=SIZE, counts=str(rle["counts"])),
          dict(size=SIZE, counts=[float(run) for run in runs]),
        ][form]
      annotations.append(
        dict(
          id=len(annotations) + 1,
          image_id=key,
          category_id=int(rng.choice([2, 44])),
          segmentation=segmentation,
          area=float(mask.sum()),
          bbox=[x, y, width, height],
          iscrowd=int(form == 3),
        )
      )
  categories = [dict(id=44, name="cup"), dict(id=2, name="cät")]
  if rng.random() < 0.1:  # as other systems write names
    for image in images:
      image["file_name"] = f"C:\\images\\{image['file_name']}"
  if rng.random() < 0.2:  # as in LVIS
    for category in categories:
      category["frequency"] = str(rng.choice(["r", "c", "f"]))
    for image in images:
      image.update(neg_category_ids=[2], not_exhaustive_category_ids=[44])
    images[0]["coco_url"] = f"https://host/images/{images[0]['file_name']}"
  return dict(images=images, annotations=annotations, categories=categories)


def mutate_json(rng, content):
  """Spoils one to four places of a JSON value."""
  content = copy.deepcopy(content)
  for _ in range(rng.integers(1, 5)):
    places = [*_places(content)]
    if not places:
      return content
    parent, key = places[rng.integers(len(places))]
    match rng.integers(7):
      case 0 | 1:
        parent[key] = _any(rng, VALUES)
      case 2:
        del parent[key]
      case 3:  # something that stands elsewhere
        other, other_key = places[rng.integers(len(places))]
        parent[key] = copy.deepcopy(other[other_key])
      case 4 if isinstance(parent, list):
        parent.insert(key, copy.deepcopy(parent[key]))
      case 5 if isinstance(parent[key], list):
        parent[key] += [_any(rng, VALUES)] * int(rng.integers(1, 4))
      case _:
        parent[key] = _perturbed(rng, parent[key])
  return content


def _any(rng, values):
  return copy.deepcopy(values[rng.integers(len(values))])


def _places(value):
  """Yields (container, key) of everything within a JSON value."""
  items = value.items() if isinstance(value, dict) else enumerate(value)
  for key, inner in [*items]:
    yield value, key
    if isinstance(inner, dict | list):
      yield from _places(inner)


def _perturbed(rng, value):
  if isinstance(value, int | float):
    if abs(value) > 2**70:  # one more digit may be too many to write
      return 0
    choices = (-value, value + 1, value - 1, value * 10**9, value + 2**32)
    return _any(rng, choices)
  if isinstance(value, str):
    return mutate_text(rng, value)
  return [value]


def mutate_text(rng, text):
  """Changes, adds or takes away some characters."""
  characters = list(text)
  for _ in range(rng.integers(1, 4)):
    place = int(rng.integers(len(characters) + 1))
    if rng.random() < 0.5:
      characters[place : place + int(rng.integers(3))] = []
    else:
      characters.insert(place, chr(int(rng.integers(32, 128))))
  return "".join(characters)


def mutate_bytes(rng, data, *, start=0):
  """Flips, overwrites, removes, repeats or inserts bytes, or cuts the end."""
  data = bytearray(data)
  for _ in range(rng.integers(1, 6)):
    # Half of the time near the beginning, where headers are.
    reach = len(data) if rng.random() < 0.5 else min(len(data), 160)
    at = int(rng.integers(start, max(reach, start + 1)))
    length = int(rng.integers(1, 9))
    match rng.integers(6):
      case 0 if at < len(data):
        data[at] ^= 1 << int(rng.integers(8))
      case 1:
        data[at : at + length] = rng.bytes(length)
      case 2:
        data[at : at + length] = b""
      case 3:
        data[at:at] = data[at : at + length]
      case 4:
        extremes = (b"\0", b"\xff", b"\x7f", b"\x80")
        data[at : at + length] = extremes[rng.integers(4)] * length
      case _:
        if rng.random() < 0.2:
          del data[at:]
  return bytes(data)


def mutate_digits(rng, text):
  """Changes some digits or letters of JSON, which mostly stays JSON."""
  text = bytearray(text)
  places = [i for i, x in enumerate(text) if chr(x).isalnum()]
  for place in rng.choice(places, int(rng.integers(1, 9))):
    alphabet = b"0123456789" if chr(text[place]).isdigit() else b"abPo_eE0"
    text[place] = alphabet[rng.integers(len(alphabet))]
  return bytes(text)


def make_images():
  """Encodes an image of HEIGHT x WIDTH in every way; returns {name: bytes}."""
  rng = np.random.default_rng(0)
  colour = rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
  colour[4:12, 5:15] = 200
  deep = rng.integers(0, 4096, (HEIGHT, WIDTH), np.uint16)
  picture = PIL.Image.fromarray(colour)
  files = {}

  def save(name, image, **options):
    file = io.BytesIO()
    image.save(
      file,
      name.rpartition(".")[2].replace("jpg", "jpeg").replace("jp2", "jpeg2000"),
      **options,
    )
    files[name] = file.getvalue()

  save("colour.png", picture)
  save("alpha.png", picture.convert("RGBA"))
  save("grey.png", picture.convert("L"))
  save("palette.png", picture.convert("P"))
  save("bits.png", picture.convert("1"))
  save("deep.png", PIL.Image.fromarray(deep))
  save("colour.jpg", picture)
  save("grey.jpg", picture.convert("L"))
  save("progressive.jpg", picture, progressive=True)
  save("print.jpg", picture.convert("CMYK"))
  save("plain.tiff", picture)
  save("lzw.tiff", picture, compression="tiff_lzw")
  save("deep.tiff", PIL.Image.fromarray(deep), compression="tiff_deflate")
  save("float.tiff", PIL.Image.fromarray(np.float32(deep)))
  save("colour.bmp", picture)
  save("grey.bmp", picture.convert("L"))
  save("lossy.webp", picture)
  save("lossless.webp", picture, lossless=True)
  save("still.gif", picture)
  save("wave.jp2", picture.convert("L"))
  save("still.avif", picture)
  save("stack.tiff", picture, save_all=True, append_images=[picture] * 2)
  turned = PIL.Image.Exif()
  turned[0x0112] = 6
  for name in ("turned.jpg", "turned.png", "turned.tiff"):
    save(name, picture, exif=turned)
  files["deep_colour.tiff"] = cv2.imencode(
    ".tiff", rng.integers(0, 4096, (HEIGHT, WIDTH, 3), np.uint16)
  )[1].tobytes()
  return files


def make_label_files(rng):
  """Draws a label image and encodes it; returns one (suffix, bytes)."""
  labels = np.zeros(SIZE, np.uint16)
  for value, mask in enumerate(make_masks(rng), 1):
    labels[mask > 0] = value
  suffix = str(rng.choice([".png", ".tiff", ".bmp"]))
  if suffix == ".bmp" or rng.random() < 0.5:
    labels = labels.astype(np.uint8)
  if suffix == ".tiff" and rng.random() < 0.3:
    labels = labels.astype(rng.choice([np.float32, np.int32, np.float64]))
  return suffix, cv2.imencode(suffix, labels)[1].tobytes()


def mutate_image(rng, data):
  """Spoils an image file; now and then only the size that it declares."""
  if rng.random() < 0.25:
    return declare_size(data, *(int(2 ** rng.uniform(1, 31)) for _ in range(2)))
  if data.startswith(b"\x89PNG") and rng.random() < 0.1:
    return data[:33] + repeat_header(rng, data) + data[33:]
  # A wrong first byte tells little; keep most signatures.
  data = mutate_bytes(rng, data, start=0 if rng.random() < 0.2 else 8)
  if data.startswith(b"\x89PNG") and rng.random() < 0.7:
    data = repair_checksums(data)
  return data


def repeat_header(rng, png):
  """Returns another header chunk of a PNG file, of any size."""
  chunk = bytearray(png[8:33])
  chunk[8:16] = struct.pack(">II", *rng.integers(1, 2**31, 2).tolist())
  chunk[21:25] = struct.pack(">I", zlib.crc32(chunk[4:21]))
  return bytes(chunk)


def declare_size(data, height, width):
  """Overwrites the size in the header of a PNG, JPEG, BMP, TIFF or GIF."""
  data = bytearray(data)
  if data.startswith(b"\x89PNG"):
    data[16:24] = struct.pack(">II", width, height)
    return repair_checksums(bytes(data))
  if data.startswith(b"\xff\xd8"):
    for marker in (b"\xff\xc0", b"\xff\xc2"):
      at = data.find(marker)
      if at > 0:
        sides = min(height, 65535), min(width, 65535)
        data[at + 5 : at + 9] = struct.pack(">HH", *sides)
  elif data.startswith(b"BM"):
    data[18:26] = struct.pack("<II", width, height)
  elif data.startswith(b"GIF"):
    data[6:10] = struct.pack("<HH", width % 65536, height % 65536)
  elif data.startswith(b"II*\0"):
    (directory,) = struct.unpack("<I", data[4:8])
    (count,) = struct.unpack("<H", data[directory : directory + 2])
    for entry in range(directory + 2, directory + 2 + 12 * count, 12):
      (tag,) = struct.unpack("<H", data[entry : entry + 2])
      if tag in (256, 257):  # ImageWidth, ImageLength, as 32 bits
        side = width if tag == 256 else height
        data[entry + 2 : entry + 12] = struct.pack("<HII", 4, 1, side)
  return bytes(data)


def repair_checksums(data):
  """Computes the checksums of the chunks of a PNG file anew."""
  parts, at = [data[:8]], 8
  while at + 12 <= len(data):
    (length,) = struct.unpack(">I", data[at : at + 4])
    if at + 12 + length > len(data):
      break
    body = data[at + 4 : at + 8 + length]
    parts.append(data[at : at + 4] + body + struct.pack(">I", zlib.crc32(body)))
    at += 12 + length
  return b"".join(parts) + data[at:]


def make_archive(rng, files):
  """Packs {name: bytes}; half of the time something is wrong with a member."""
  file = io.BytesIO()
  with zipfile.ZipFile(file, "w") as archive:
    for name, data in files.items():
      archive.writestr(
        name, data, compress_type=int(rng.choice([0, 8, 12, 14]))
      )
    if rng.random() < 0.5:
      _add_odd_member(rng, archive)
  data = file.getvalue()
  if rng.random() < 0.7:
    # Directory at the end, local headers at the start.
    tail = int(rng.integers(0, len(data)))
    data = data[:tail] + mutate_bytes(rng, data[tail:])
  return data


def _add_odd_member(rng, archive):
  names = ("", "/", "../up.png", "/abs.png", "a/../../up.png", "C:\\x.png")
  names += ("..\\up.png", "x" * 300 + ".png", "\u202egnp.x", "a\x01.png", ".")
  member = zipfile.ZipInfo()
  member.filename = str(rng.choice(names))
  if rng.random() < 0.3:
    member.filename = "link.png"
    member.create_system = 3
    member.external_attr = (stat.S_IFLNK | 0o777) << 16
  archive.writestr(member, b"/etc/passwd")


def dump(content):
  """Writes JSON as Python does, NaN and lone surrogates included."""
  return json.dumps(content).encode()
