"""A frozen network as a scikit-learn transformer: images in, features out."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import Tags

from tl.data.images import ImageLike
from tl.inference import model as inference


class FeatureExtractor(TransformerMixin, BaseEstimator):
    """A scikit-learn transformer from images to the features of a network; nothing is fitted.

    Its parameters can be searched: `GridSearchCV(make_pipeline(FeatureExtractor(), ...),
    {"featureextractor__endpoint": ["stage3", "stage4+pooled"]})`. Give the pipeline a `memory`, and
    features are computed once for each setting.
    """

    def __init__(
        self,
        weights: str = "efficientnet_lite0",
        endpoint: str = "pooled",
        pooling: str = "mean",
        batch_size: int = 64,
    ):
        """Keeps the parameters; weights are loaded when they are first needed.

        Args:
          weights: a run, a weight file or a public weight set, as for `tl.load`.
          endpoint: name of the network's output; 'a+b' puts two side by side.
          pooling: how an endpoint [H, W, D] becomes a vector, as for `Model.features`.
          batch_size: images computed at a time, on all devices together.
        """
        self.weights = weights
        self.endpoint = endpoint
        self.pooling = pooling
        self.batch_size = batch_size

    def fit(self, X: Sequence[ImageLike], y: Any = None) -> "FeatureExtractor":
        """Loads the network; the images are not looked at.

        Args:
          X: images, not used.
          y: labels, not used.

        Raises:
          UserError: there are no such weights.
        """
        self.model_ = inference.load(self.weights, batch_size=self.batch_size)
        return self

    def transform(self, X: Sequence[ImageLike]) -> Float[np.ndarray, "n d"]:
        """Returns features of images, float32 [N, D].

        Args:
          X: N paths, Pillow images or arrays uint8 [H, W, 3], or one array [N, H, W, 3].

        Raises:
          UserError: there is no such endpoint, or an image cannot be used.
        """
        if not self.__sklearn_is_fitted__():
            self.fit(X)
        names = self.endpoint.split("+")
        found = self.model_.features(X, names, self.pooling)
        return np.concatenate([found[name] for name in names], axis=1)

    def get_feature_names_out(self, input_features: object = None) -> np.ndarray:
        """Returns the names of the D features, such as `pooled_0`.

        Args:
          input_features: not used.
        """
        names = self.endpoint.split("+")
        widths = self.model_.widths(names, self.pooling)
        return np.array(
            [f"{name}_{place}" for name in names for place in range(widths[name])], object
        )

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "model_")

    def __getstate__(self) -> dict[str, Any]:
        """Leaves the loaded network out, which loads again where the estimator goes."""
        state = dict(super().__getstate__())
        state.pop("model_", None)
        return state

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        tags.input_tags.string = True
        tags.no_validation = True
        return tags
