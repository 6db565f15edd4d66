"""Weight masks: how many weights to keep, which ones, and when masks change. Methods combine these into papers.

May import layers, seeding and errors; never launch, storage, runs, ray or pyarrow.
"""
