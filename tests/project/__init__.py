"""Tests of the project as a whole: its API, documents, golden archives, exactness, hostile input."""
