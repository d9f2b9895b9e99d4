"""Orientation tags of cameras (EXIF): applied or ignored, by choice.

A viewer shows a photograph turned as its tag says; the file stores it as the
sensor saw it. Masks drawn in a viewer that applies the tag do not match the
stored pixels.
"""

from typing import NamedTuple

from solo_jax.data.image_files import Header

CHOICES = ("apply", "ignore")


class Mismatch(NamedTuple):
  """Annotations that belong to pixels of another size.

  Attributes:
    kind: The problem, in the same words for all of its kind.
    detail: The same with sizes; continues after 'the image'.
  """

  kind: str
  detail: str


def image_size(header: Header, choice: str | None) -> tuple[int, int]:
  """Returns the size that an image has in training.

  Args:
    header: Header of the image.
    choice: One of CHOICES; None ignores the tag.

  Returns:
    (height, width).
  """
  return header.turned_size if choice == "apply" else header.size


def compare_size(
  header: Header, annotated: tuple[int, int], choice: str | None, whose: str
) -> Mismatch | None:
  """Returns how the size of an image differs from that of its annotations.

  Args:
    header: Header of the image.
    annotated: (height, width) according to the annotations.
    choice: One of CHOICES; None ignores the tag.
    whose: Words in front of that size, such as 'the annotations say'.

  Returns:
    None if they are equal.
  """
  height, width = image_size(header, choice)
  if (height, width) == tuple(annotated):
    return None
  text = f"{height} x {width} (height x width)"
  said = f"{whose} {annotated[0]} x {annotated[1]}"
  if header.orientation > 4 and (width, height) == tuple(annotated):
    drawn, other = "the stored pixels", "ignore"
    if choice != "apply":
      drawn, other = "the image turned by its tag", "apply"
    return Mismatch(
      f"masks drawn on {drawn} (EXIF orientation): pass --exif={other}",
      f"is {text} with EXIF orientation {header.orientation} "
      f"{'applied' if choice == 'apply' else 'ignored'}; {said}, as of "
      f"{drawn}: pass --exif={other}, or rotate the files",
    )
  return Mismatch(
    "image and annotations of different sizes", f"is {text}; {said}"
  )


def describe_tag(header: Header, choice: str | None) -> tuple[str, str] | None:
  """Returns the note about an image with an orientation tag.

  Args:
    header: Header of the image.
    choice: One of CHOICES; None if the user did not choose.

  Returns:
    (kind, detail), None for an image that is upright.
  """
  if header.orientation == 1:
    return None
  detail = f"has EXIF orientation {header.orientation}"
  if choice == "apply":
    return "image turned by its EXIF orientation (--exif=apply)", detail
  kind = "image whose EXIF orientation is ignored"
  if choice is None:
    kind += ": pass --exif=apply if masks were drawn on the turned image, "
    kind += "--exif=ignore if not"
  return kind, detail
