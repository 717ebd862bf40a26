"""``python -m scmag_muon``."""

from __future__ import annotations

import sys

from scmag_muon._cli import main

if __name__ == "__main__":
    sys.exit(main())
