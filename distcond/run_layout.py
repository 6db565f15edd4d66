"""Names of the files and directories in a run directory, all in one place. No imports.

<run>/config.json        settings and run ID, written when the run starts
<run>/starts.json        one record per start: time, command, commit, versions, and why it ended
<run>/checkpoints/       epoch-0012/shared.pt and rank-0000.pt
<run>/history.jsonl      one record per epoch
<run>/results/           rows, tables and figures
<run>/finished.json      written last: summary of the finished run
"""

CONFIG_FILE = "config.json"
STARTS_FILE = "starts.json"
#: How often the run was restarted by its launcher.
ATTEMPT_FILE = "attempt.json"
#: How far the run is, rewritten every second or so.
PROGRESS_FILE = "progress.json"
HISTORY_FILE = "history.jsonl"
FINISHED_FILE = "finished.json"
#: Name and index of every class, where classes have names.
CLASSES_FILE = "classes.json"
#: The weights the run started from (`init_from`), and the run it continues (`continue_from`).
INIT_FROM_FILE = "init_from.json"
LINEAGE_FILE = "lineage.json"
#: A request to stop, beside a run at a URI.
STOP_FILE = "stop.txt"
#: A random text of the driver, by which Ray workers check that they see the same directory.
PROBE_FILE = ".shared"
#: What Ray Train stores while workers run.
RAY_DIR = ".ray"
#: Held while a process works on the run.
LOCK_FILE = ".lock"

CHECKPOINTS_DIR = "checkpoints"
#: In a checkpoint: rank 0's part. The parts of ranks are `rank_file(rank)`.
SHARED_FILE = "shared.pt"
#: In a checkpoint at a URI: uploaded last, so a checkpoint without it does not exist.
COMPLETE_FILE = "complete.json"

RESULTS_DIR = "results"
#: What became of every image of an evaluation, kept so that it resumes and is not repeated.
OUTCOMES_DIR = "outcomes"
FAILURES_DIR = "failures"
#: State of trackers, such as the ID of the MLflow run.
TRACKERS_DIR = "sinks"
TENSORBOARD_DIR = "tensorboard"

#: Of a pair: its two runs, the fit of MixedNUTS, and interpolated networks.
PAIR_FILE = "pair.json"
MIXEDNUTS_FILE = "mixednuts.json"
INTERPOLATED_DIR = "interpolated"


def rank_file(rank: int) -> str:
    """The part of one rank in a checkpoint."""
    return f"rank-{rank:04d}.pt"
