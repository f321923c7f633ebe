"""Folders of image files: listed, decoded, cached."""
