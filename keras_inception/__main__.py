"""`python -m keras_inception` is the command `keras-inception`."""

import sys

from keras_inception.cli import main

sys.exit(main())
