"""The parts that subclass FFCV's classes. They import FFCV, so only `distcond.data.ffcv_source` imports them."""
