"""Fixtures of the tests that need a real QuPath."""

from qupath_fixtures import folder, made, project, pytest_collection_modifyitems

__all__ = ["folder", "made", "project", "pytest_collection_modifyitems"]
