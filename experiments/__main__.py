"""`python -m experiments`: the command line without an installed `eosflows`."""

import sys

from .cli import main

sys.exit(main())
