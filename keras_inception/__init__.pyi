from .architecture import (
    ARCHITECTURES as ARCHITECTURES,
    GOOGLENET as GOOGLENET,
    GOOGLENET_BN as GOOGLENET_BN,
    GOOGLENET_SLIM as GOOGLENET_SLIM,
    GOOGLENET_SMALL as GOOGLENET_SMALL,
    GOOGLENET_TORCHVISION as GOOGLENET_TORCHVISION,
    LRN as LRN,
    NIN as NIN,
    Architecture as Architecture,
    AuxiliaryHead as AuxiliaryHead,
    Conv as Conv,
    FullyConnected as FullyConnected,
    Inception as Inception,
    MaxPool as MaxPool,
    MlpConv as MlpConv,
    get_architecture as get_architecture,
)
from .blocks import (
    auxiliary_head as auxiliary_head,
    fully_connected as fully_connected,
    inception_block as inception_block,
    mlpconv_block as mlpconv_block,
    naive_inception_block as naive_inception_block,
)
from .cost import RowCost as RowCost, row_costs as row_costs
from .data.dataset import ImageDataset as ImageDataset
from .errors import InceptionError as InceptionError
from .googlenet import (
    GoogLeNet as GoogLeNet,
    feature_extractor as feature_extractor,
    inference_model as inference_model,
)
from .layers import LocalResponseNormalization as LocalResponseNormalization
from .tuning.hypermodel import HyperGoogLeNet as HyperGoogLeNet
from .weights.imagenet import decode_predictions as decode_predictions, preprocess_input as preprocess_input
from .weights.published import PublishedWeights as PublishedWeights, list_weights as list_weights

__version__: str
