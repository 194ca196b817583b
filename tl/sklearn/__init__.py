"""Networks as scikit-learn estimators, for pipelines, cross-validation and grid search."""

from tl.sklearn.extractor import FeatureExtractor

__all__ = ["FeatureExtractor"]
