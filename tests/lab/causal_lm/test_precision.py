import pytest

torch = pytest.importorskip("torch")

from tailkeep.errors import ConfigError  # noqa: E402
from tailkeep.lab.causal_lm import model as room  # noqa: E402
from tailkeep.lab.causal_lm.config import DTypes  # noqa: E402
from tailkeep.lab.causal_lm.model import MIN_CPU_PARAMETERS, Precision, resolve_precision  # noqa: E402

LARGE, SMALL = MIN_CPU_PARAMETERS, MIN_CPU_PARAMETERS - 1


@pytest.fixture
def native(monkeypatch):
    def set_native(devices):
        monkeypatch.setattr(room, "has_native_bfloat16", lambda device: device in devices)

    return set_native


@pytest.mark.parametrize(
    ("devices", "device", "parameters", "expected"),
    [
        ({"cpu"}, "cpu", LARGE, (True, True, False)),
        ({"cpu"}, "cpu", SMALL, (False, False, False)),
        (set(), "cpu", LARGE, (False, False, False)),
        ({"cuda"}, "cuda", SMALL, (True, True, True)),
        (set(), "cuda", LARGE, (False, False, False)),
    ],
)
def test_auto_follows_from_processor_and_model(native, devices, device, parameters, expected):
    native(devices)
    found = resolve_precision(DTypes(), device=device, num_parameters=parameters)
    assert (found.train, found.score, found.decode) == expected


def test_each_phase_can_be_chosen_and_a_single_word_stands_for_all(native):
    native({"cpu"})
    assert DTypes.model_validate("float32") == DTypes(train="float32", score="float32", decode="float32")
    chosen = resolve_precision(DTypes(train="float32", decode="bfloat16"), device="cpu", num_parameters=LARGE)
    assert (chosen.train, chosen.score, chosen.decode) == (False, True, True)


def test_bfloat16_by_name_is_refused_where_it_is_not_native(native):
    native(set())
    with pytest.raises(ConfigError, match=r"dtype\.score is bfloat16, but this cpu has none\. Use auto or float32\."):
        resolve_precision(DTypes(score="bfloat16"), device="cpu", num_parameters=LARGE)


def test_autocast_computes_a_phase_in_bfloat16_and_leaves_weights_and_other_phases_alone():
    layer, row = torch.nn.Linear(4, 4), torch.randn(1, 4)
    chosen = Precision("cpu", score=True)
    with chosen.autocast("score"):
        assert layer(row).dtype == torch.bfloat16
    with chosen.autocast("decode"):
        assert layer(row).dtype == torch.float32
    assert layer.weight.dtype == torch.float32
