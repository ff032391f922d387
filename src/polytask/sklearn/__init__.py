"""scikit-learn estimators: ``AdapterClassifier``, ``AdapterRegressor`` and a grid search that trains in fused passes.

>>> from polytask.sklearn import AdapterClassifier
>>> classifier = AdapterClassifier("minilm", epochs=5).fit(texts, labels)
>>> classifier.predict(["see you at 5"]), classifier.predict_proba(["see you at 5"])
"""

from polytask.sklearn.estimators import AdapterClassifier, AdapterRegressor
from polytask.sklearn.grid_search import AdapterGridSearchCV

__all__ = ["AdapterClassifier", "AdapterGridSearchCV", "AdapterRegressor"]
