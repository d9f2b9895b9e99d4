"""toy_train.py under a clock that jumps a year back and a month ahead."""

import itertools
import time

import toy_train

_REAL = time.time
_CALLS = itertools.count()
_JUMPS = (0.0, -365 * 86400.0, 30 * 86400.0)


def jumping():
  call = next(_CALLS)
  if call == 50:
    print("the clock jumped", flush=True)
  return _REAL() + _JUMPS[call // 50 % len(_JUMPS)]


time.time = jumping
time.time_ns = lambda: int(jumping() * 1e9)
toy_train.main()
