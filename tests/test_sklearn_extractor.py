import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import SkipTestWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import check_estimator

from tests import tiny
from tl.errors import UserError
from tl.sklearn import FeatureExtractor


@pytest.fixture
def weights(tmp_path):
    with tiny.registered():
        yield tiny.write_weights(tmp_path / "tiny.safetensors")


IMAGES = np.random.default_rng(0).integers(0, 128, (12, 16, 16, 3), np.uint8)
IMAGES[1::2] += 128
LABELS = np.arange(12) % 2


def test_features(weights):
    extractor = FeatureExtractor(weights, "stem+pooled")
    found = extractor.fit_transform(IMAGES)
    assert found.shape == (12, 24) and found.dtype == np.float32
    names = extractor.get_feature_names_out()
    assert [names[0], names[8], len(names)] == ["stem_0", "pooled_0", 24]
    np.testing.assert_array_equal(FeatureExtractor(weights, "stem+pooled").transform(IMAGES), found)


def test_a_pipeline_can_be_searched(weights):
    pipeline = make_pipeline(FeatureExtractor(weights), LogisticRegression())
    search = GridSearchCV(pipeline, {"featureextractor__endpoint": ["stem", "pooled"]}, cv=2)
    search.fit(IMAGES, LABELS)
    assert search.score(IMAGES, LABELS) == 1.0


def test_clone_and_pickle_leave_the_network_out(weights):
    fitted = FeatureExtractor(weights).fit(IMAGES)
    assert len(pickle.dumps(fitted)) < 1000
    assert not hasattr(clone(fitted), "model_")
    np.testing.assert_array_equal(
        pickle.loads(pickle.dumps(fitted)).transform(IMAGES), fitted.transform(IMAGES)
    )


def test_scikit_learns_checks_of_any_estimator():
    # Those of what an estimator computes want tables of numbers.
    with pytest.warns(SkipTestWarning, match="Can't test estimator FeatureExtractor"):
        check_estimator(FeatureExtractor())
    for check in (
        estimator_checks.check_parameters_default_constructible,
        estimator_checks.check_no_attributes_set_in_init,
        estimator_checks.check_get_params_invariance,
        estimator_checks.check_set_params,
        estimator_checks.check_estimator_repr,
        estimator_checks.check_estimator_tags_renamed,
        estimator_checks.check_valid_tag_types,
    ):
        check("FeatureExtractor", FeatureExtractor())


def test_mistakes(weights):
    with pytest.raises(UserError, match="no endpoint 'poled'"):
        FeatureExtractor(weights, "poled").fit_transform(IMAGES)
    with pytest.raises(UserError, match="no weight set is called 'resnet_50'"):
        FeatureExtractor("resnet_50").fit(IMAGES)
