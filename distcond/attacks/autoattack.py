"""The ensembles of AutoAttack (Croce and Hein 2020) as cascades of this room's attacks.

`num_steps` is that of the gradient attacks; the standard 100 steps go with 5,000 queries of Square, fewer with fewer.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from distcond.attacks.apgd import APGD_CE, APGD_DLR, APGD_T, apgd
from distcond.attacks.attack import Attack, protocol
from distcond.attacks.fab import FAB_T
from distcond.attacks.square import SQUARE, square

RAND_DRAWS = 20

STANDARD = Attack(
    "autoattack",
    "AutoAttack, standard: apgd-ce, apgd-t, fab-t, square",
    stages=(APGD_CE, APGD_T, FAB_T, replace(SQUARE, run=partial(square, queries_per_step=50))),
    settle=protocol(100),
    min_classes=4,
    refuses_random=True,
)
RAND = Attack(
    "autoattack-rand",
    f"AutoAttack for random networks: apgd-ce and apgd-dlr, gradients averaged over {RAND_DRAWS} draws",
    stages=(
        replace(APGD_CE, run=partial(apgd, eot_draws=RAND_DRAWS)),
        replace(APGD_DLR, run=partial(apgd, loss="dlr", eot_draws=RAND_DRAWS)),
    ),
    settle=protocol(100),
    eot_draws=RAND_DRAWS,
    min_classes=3,
)
