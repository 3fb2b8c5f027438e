"""A regime of one's own: the real data are repeated for `rounds` generations, then only synthetic data follow.

regime: {name: "my_regime:Weaning", rounds: 1}
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Weaning:
    rounds: int = 1
    keeps_history = False

    def generate(self, stage, *, seed):
        return stage.model.sample(len(stage.real), seed=seed)

    def mix(self, generation, real, generated, *, seed):
        return real.concat(generated[generation]) if 0 < generation <= self.rounds else generated.get(generation, real)

    def budget(self, generation, real):
        return real.units

    def facts(self, generation, generated):
        return {"with_real_data": float(generation <= self.rounds)}
