"""Names of detectron2's ResNets, caffe-style: BGR, stride in the first 1x1.

Files of tensors, and pickles of NumPy arrays with the ending .pkl.
"""

from solo_jax.conversion.mapping import CONV, Rule, norm_rules


def backbone_rules(source: str = "", target: str = "") -> tuple[Rule, ...]:
  r"""Returns the rules of a ResNet.

  Args:
    source: Regular expression before every name, such as
      r'backbone\.bottom_up\.'.
    target: Path before every target, such as 'backbone/'.

  Returns:
    The rules.
  """
  rules = [
    Rule(rf"{source}stem\.conv1\.weight", f"params/{target}conv1/kernel", CONV),
    *norm_rules(rf"{source}stem\.conv1\.norm", f"{target}bn1"),
  ]
  for stage in range(1, 5):  # res2 is the first stage
    layer = rf"{source}res{stage + 1}\.(\d+)"
    block = rf"{target}layer{stage}_\1"
    rules += [
      Rule(
        rf"{layer}\.conv(\d)\.weight", rf"params/{block}/conv\2/kernel", CONV
      ),
      *norm_rules(rf"{layer}\.conv(\d)\.norm", rf"{block}/bn\2"),
      Rule(
        rf"{layer}\.shortcut\.weight",
        f"params/{block}/downsample_conv/kernel",
        CONV,
      ),
      *norm_rules(rf"{layer}\.shortcut\.norm", f"{block}/downsample_bn"),
    ]
  return tuple(rules)


BACKBONE = (
  *backbone_rules(),
  Rule(r"(linear|fc|stem\.fc)\.(weight|bias)", None),  # the classifier
)
