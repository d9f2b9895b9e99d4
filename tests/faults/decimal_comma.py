"""toy_train.py in a process that uses the locale of its surroundings."""

import locale

import toy_train

locale.setlocale(locale.LC_ALL, "")
print(f"one half is {0.5:n} here", flush=True)
toy_train.main()
