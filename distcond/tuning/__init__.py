"""What a sweep of runs is: its space, what it proposes, what it compares, and its files. Nothing here imports Ray."""
