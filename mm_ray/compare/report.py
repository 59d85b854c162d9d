"""`compare.html` and the tables beside it."""

from mm_ray.report.comparison import write_comparison as write_report

__all__ = ["write_report"]
