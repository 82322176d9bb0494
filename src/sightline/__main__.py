"""``python -m sightline`` is the command ``sightline``."""

import sys

from .cli import main

sys.exit(main())
