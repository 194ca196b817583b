"""Finished runs and weight sets as classifiers of new images."""
