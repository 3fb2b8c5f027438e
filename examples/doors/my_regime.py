"""A regime of one's own: real data too for `rounds` generations, then generated data only.

regime: {name: "my_regime:Weaning", rounds: 1}
"""


class Weaning:
    keeps_history = False

    def __init__(self, rounds: int = 1):
        self.rounds = rounds

    def generate(self, stage, *, seed):
        return stage.model.sample(len(stage.real), seed=seed)

    def mix(self, generation, real, generated, *, seed):
        return real.concat(generated[generation]) if 0 < generation <= self.rounds else generated.get(generation, real)

    def budget(self, generation, real):
        return real.units

    def facts(self, generation, generated):
        return {"with_real_data": float(generation <= self.rounds)}
