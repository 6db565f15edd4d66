"""Square (Andriushchenko et al. 2020), a random search that needs no gradient, by pyautoattack."""

from __future__ import annotations

from torch import Tensor

from distcond.attacks.attack import Attack, Logits, protocol
from distcond.attacks.library import drawing, part
from distcond.config.schema import AttackConfig


def square(logits: Logits, x: Tensor, y: Tensor, config: AttackConfig, seed: int, queries_per_step: int = 1) -> Tensor:
    """See `attack.Run`. `num_steps` counts queries, or in a cascade so many queries each."""
    attack = part("square", "SquareAttack")(
        logits, n_queries=config.num_steps * queries_per_step, eps=config.epsilon, norm=config.norm, p_init=0.8,
        n_restarts=config.restarts, seed=seed, resc_schedule=False, device=x.device,
    )  # fmt: skip
    last: list[tuple[Tensor, Tensor]] = []  # images the newest restart began at, and where it ended
    single = attack.attack_single_run

    def remembered(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        queries, ends = single(images, labels)
        last[:] = [(images, ends)]
        return queries, ends

    attack.attack_single_run = remembered
    with drawing(seed, x.device):
        found: Tensor = attack.perturb(x, y)
    return _with_ends(found, x, *last[0]) if last else found


def _with_ends(found: Tensor, x: Tensor, images: Tensor, ends: Tensor) -> Tensor:
    """The library gives back the image itself where it fooled nobody; a transfer needs where it got to."""
    place = {image.tobytes(): row for row, image in enumerate(images.cpu().numpy())}
    unmoved = (found == x).flatten(1).all(1).nonzero().flatten().tolist()
    rows = [(row, place[key]) for row in unmoved if (key := x[row].cpu().numpy().tobytes()) in place]
    found = found.clone()
    for row, end in rows:
        found[row] = ends[end]
    return found


SQUARE = Attack("square", "random search without gradients, 5,000 queries", square, settle=protocol(5000))
