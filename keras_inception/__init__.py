"""GoogLeNet and the Inception family for Keras: build, train, measure, understand and ship.

The public names stand in `__init__.pyi` and are loaded when they are first used, so that `import keras_inception`
does not import TensorFlow.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
