import zipfile

import cv2
import numpy as np
import PIL.Image
import pytest

from solo_jax.data.file_tree import (
  FileTree,
  is_complete,
  read_label_image,
  to_jpeg_or_png,
)


def encode(suffix, image):
  return cv2.imencode(suffix, image)[1].tobytes()


@pytest.fixture
def folder(tmp_path):
  path = tmp_path / "top"
  (path / "deep").mkdir(parents=True)
  (path / "a.png").write_bytes(encode(".png", np.zeros((3, 5), np.uint16)))
  (path / "deep" / "b.txt").write_text("b")
  return path


@pytest.mark.parametrize("top", ["top/", ""])
def test_archive_reads_like_the_folder(folder, tmp_path, top):
  with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
    archive.mkdir("top")
    for name in ("a.png", "deep/b.txt"):
      archive.write(folder / name, top + name)
  for tree in (FileTree(folder), FileTree(tmp_path / "x.zip")):
    assert tree.list_names() == ["a.png", "deep/b.txt"]
    assert tree.read("deep/b.txt") == b"b"
    assert "a.png" in tree and "top/a.png" not in tree and "deep" not in tree
    assert tree.read_header("a.png") == ((3, 5), "I;16")
    with pytest.raises(ValueError, match="deep/b.txt is no readable image"):
      tree.read_header("deep/b.txt")


def test_bad_paths(folder):
  with pytest.raises(FileNotFoundError, match="nowhere: no such folder or zip"):
    FileTree(folder / "nowhere")
  with pytest.raises(ValueError, match="expected a folder or a zip archive"):
    FileTree(folder / "a.png")


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_jpeg_and_png_stay_untouched(suffix):
  encoded = encode(suffix, np.zeros((3, 5, 3), np.uint8))
  assert to_jpeg_or_png(encoded) is encoded


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [(3, 5), (3, 5, 3)])
def test_tiff_becomes_png_without_loss(dtype, shape):
  rng = np.random.default_rng(0)
  image = rng.integers(0, np.iinfo(dtype).max, shape, dtype)
  png = to_jpeg_or_png(encode(".tiff", image))
  assert png.startswith(b"\x89PNG")
  decoded = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)
  np.testing.assert_array_equal(decoded, image)


def test_unusable_images():
  with pytest.raises(ValueError, match="found float32 pixels"):
    to_jpeg_or_png(encode(".tiff", np.zeros((3, 5), np.float32)))
  with pytest.raises(ValueError, match="not a readable image"):
    to_jpeg_or_png(b"text")
  with pytest.raises(ValueError, match="cannot decode the label image"):
    read_label_image(b"text")


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_label_image_values(suffix, dtype):
  labels = np.arange(15, dtype=dtype).reshape(3, 5)
  labels[0, 0] = np.iinfo(dtype).max
  np.testing.assert_array_equal(
    read_label_image(encode(suffix, labels)), labels
  )


def test_palette_indices_are_the_labels(tmp_path):
  labels = np.arange(6, dtype=np.uint8).reshape(2, 3)
  image = PIL.Image.fromarray(labels).convert("P")
  image.putpalette([x for i in range(256) for x in (255 - i, i, 7)])
  image.save(tmp_path / "p.png")
  read = read_label_image((tmp_path / "p.png").read_bytes())
  np.testing.assert_array_equal(read, labels)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tiff", ".bmp"])
def test_truncated_images_are_refused(suffix):
  rng = np.random.default_rng(0)
  encoded = encode(suffix, rng.integers(0, 255, (40, 50, 3), np.uint8))
  assert is_complete(encoded)
  to_jpeg_or_png(encoded)
  assert not is_complete(encoded[: len(encoded) // 2])
  with pytest.raises(ValueError, match="truncated"):
    to_jpeg_or_png(encoded[: len(encoded) // 2])


def test_bytes_behind_the_end_of_a_jpeg_are_allowed():
  encoded = encode(".jpg", np.zeros((3, 5, 3), np.uint8)) + b"made by a camera"
  assert to_jpeg_or_png(encoded) is encoded


def test_damaged_png_is_refused():
  encoded = bytearray(encode(".png", np.arange(3000, dtype=np.uint8)[None]))
  encoded[60:70] = bytes(10)
  with pytest.raises(ValueError, match="not a readable image"):
    to_jpeg_or_png(bytes(encoded))


def test_bmp_becomes_png():
  image = np.arange(15, dtype=np.uint8).reshape(3, 5)
  png = to_jpeg_or_png(encode(".bmp", image))
  decoded = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)
  np.testing.assert_array_equal(decoded.reshape(3, 5, -1)[..., 0], image)
  np.testing.assert_array_equal(read_label_image(encode(".bmp", image)), image)


def test_damaged_member_of_an_archive(tmp_path):
  path = tmp_path / "x.zip"
  with zipfile.ZipFile(path, "w") as archive:
    archive.writestr("a.txt", "content")
  path.write_bytes(path.read_bytes().replace(b"content", b"contort"))
  with pytest.raises(ValueError, match="damaged in .*x.zip: Bad CRC"):
    FileTree(path).read("a.txt")
