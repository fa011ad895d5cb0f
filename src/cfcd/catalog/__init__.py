"""Catalogs: tables of images read from folders, tables and lists."""

from cfcd.catalog.paths import IMAGE_SUFFIXES
from cfcd.catalog.readers import read_catalog
from cfcd.catalog.table import Box, Catalog, Item, Problem

__all__ = ["IMAGE_SUFFIXES", "Box", "Catalog", "Item", "Problem", "read_catalog"]
