"""Result grids: queries and their hits as pictures, as a page or as one image."""

from cfcd.evaluation.cells import GridCell, GridRow
from cfcd.evaluation.grid_html import write_grid_html
from cfcd.evaluation.grid_png import write_grid_png

__all__ = ["GridCell", "GridRow", "write_grid_html", "write_grid_png"]
