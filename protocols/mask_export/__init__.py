"""Files from which a lab has its mask printed: GDSII, SVG, and the PNG that the SLM shows instead."""

from protocols.mask_export.export import MaskFiles, export_mask

__all__ = ["MaskFiles", "export_mask"]
