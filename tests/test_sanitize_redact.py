import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailkeep.sanitize import HIDDEN, redact, redact_tree

SECRET = "s3cr3tValue0123456789"


@pytest.fixture(autouse=True)
def no_secret_variables(monkeypatch):
    for name in ("HF_TOKEN", "PGPASSWORD", "SHORT_TOKEN"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("hf_AbCdEfGhIjKlMnOpQrStUv", HIDDEN),
        ("model_hf_AbCdEfGhIjKlMnOpQrStUv!", f"model_{HIDDEN}!"),
        ("sk-proj-AbCdEfGhIjKlMnOp", HIDDEN),
        ("ghp_" + "a1" * 18, HIDDEN),
        ("github_pat_" + "a1_" * 12, HIDDEN),
        ("AKIAABCDEFGHIJKLMNOP", HIDDEN),
        ("AIza" + "aB3_-" * 7, HIDDEN),
        ("npm_" + "aB3" * 12, HIDDEN),
        ("nvapi-" + "aB3_-" * 8, HIDDEN),
        ("got eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl-_ back", f"got {HIDDEN} back"),
        (f"AccountName=x;AccountKey={SECRET}==;Endpoint=y", f"AccountName=x;AccountKey={HIDDEN};Endpoint=y"),
        (f"Server=x;pwd={SECRET};", f"Server=x;pwd={HIDDEN};"),
        ("password: correct horse battery staple\nseeds: 1", f"password: {HIDDEN}\nseeds: 1"),
        ('{"password": "correct \\"horse\\" staple", "a": 1}', f'{{"password": "{HIDDEN}", "a": 1}}'),
        ('log "{\\"api_key\\": \\"a b c\\"}"', f'log "{{\\"api_key\\": \\"{HIDDEN}\\"}}"'),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----\nafter", f"{HIDDEN}\nafter"),
        ("-----BEGIN PRIVATE KEY-----\\nMIIE cut off", HIDDEN),
        (f"https://user:{SECRET}@host/path", f"https://{HIDDEN}@host/path"),
        (f"https://user:p@ss:{SECRET}@host", f"https://{HIDDEN}@host"),
        (f"redis://:{SECRET}@host", f"redis://{HIDDEN}@host"),
        ("s3://AKIAX:abc/def+g@bucket/x", f"s3://{HIDDEN}@bucket/x"),
        ("https://user:pa/ss@host/x", f"https://{HIDDEN}@host/x"),
        (f"https://{SECRET}@host/repo.git", f"https://{HIDDEN}@host/repo.git"),
        (f"https://host/?a=1&X-Amz-Signature={SECRET}&b=2", f"https://host/?a=1&X-Amz-Signature={HIDDEN}&b=2"),
        (f"https://host/?token={SECRET}", f"https://host/?token={HIDDEN}"),
        (f"Authorization: Bearer {SECRET}", f"Authorization: Bearer {HIDDEN}"),
        (f"authorization: Basic {SECRET}==", f"authorization: Basic {HIDDEN}"),
        (f"{{'Authorization': 'Bearer {SECRET}'}}", f"{{'Authorization': 'Bearer {HIDDEN}'}}"),
        (f"sent bearer {SECRET} to", f"sent bearer {HIDDEN} to"),
        (f"hub_token: {SECRET}\nseeds: [0]", f"hub_token: {HIDDEN}\nseeds: [0]"),
        (f"  token: {SECRET}", f"  token: {HIDDEN}"),
        (f"- token: '{SECRET}'", f"- token: '{HIDDEN}'"),
        (f'{{"api_key": "{SECRET}", "a": 1}}', f'{{"api_key": "{HIDDEN}", "a": 1}}'),
        (f"failed with password={SECRET}, retry", f"failed with password={HIDDEN}, retry"),
        (f"HF_TOKEN={SECRET} tailkeep lab", f"HF_TOKEN={HIDDEN} tailkeep lab"),
    ],
)
def test_a_credential_is_hidden_and_the_rest_stays(text, safe):
    assert redact(text) == safe
    assert redact(safe) == safe


@pytest.mark.parametrize(
    "text",
    [
        "expected a mapping, found unexpected token: identifier",
        "eos_token: </s>",
        "pad_token='<pad>'",
        '{"tokenizer.eos_token": "</s>"}',
        "tokens: 4096",
        "nll_per_token_id: 3",
        "https://huggingface.co/roneneldan/TinyStories-1M",
        "file:///home/someone/a@b.txt",
        "mail me@example.org: now",
        "https://host:8080/path",
        "https://host:8080/path/@someone",
        "ssh://github.com:org/repo@v1",
        "http://[::1]:8080/p/@x",
        "half_hf_token",
        "task-based sk-learn",
        "bearer of news",
        "seeds: [0, 1]\nloss: {name: truncated, threshold: 0.9}",
    ],
)
def test_what_is_no_credential_stays(text):
    assert redact(text) == text


def test_the_value_of_a_secret_variable_is_hidden_wherever_it_stands(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "an-odd-shape")
    monkeypatch.setenv("PGPASSWORD", "an-odd-shape-and-more")
    assert redact("x=an-odd-shape-and-more; an-odd-shape.") == f"x={HIDDEN}; {HIDDEN}."


def test_a_short_value_of_a_secret_variable_hides_no_ordinary_word(monkeypatch):
    monkeypatch.setenv("SHORT_TOKEN", "the")
    assert redact("the loss") == "the loss"


@pytest.mark.parametrize(
    "key",
    ["token", "HF_TOKEN", "hub_token", "password", "apiKey", "api-key", "aws_secret_access_key", "client_secret"],
)
@pytest.mark.parametrize("value", ["x", ["x"], {"inner": "x"}])
def test_what_a_secret_key_holds_is_hidden_whole(key, value):
    assert redact_tree({"a": [{key: value}]}) == {"a": [{key: HIDDEN}]}


@pytest.mark.parametrize(
    "key", ["eos_token", "tokenizer.pad_token", "tokens", "tokenizer", "secretary", "passwords_file"]
)
def test_what_another_key_holds_stays(key):
    assert redact_tree({key: "x"}) == {key: "x"}


def test_a_number_is_no_credential():
    assert redact_tree({"nll_per_token": 2.5, "token": None, "secret": True}) == {
        "nll_per_token": 2.5,
        "token": None,
        "secret": True,
    }


def test_strings_at_any_depth_are_redacted_and_shapes_kept():
    tree = {"a": (1, ["https://u:p@h", {"b": None}]), "c": 2.5}
    assert redact_tree(tree) == {"a": [1, [f"https://{HIDDEN}@h", {"b": None}]], "c": 2.5}


@given(text=st.text(alphabet="ab_:=@/&? token'\"\n{}-") | st.text())
def test_redacting_twice_is_redacting_once(text):
    once = redact(text)
    assert redact(once) == once


@pytest.mark.parametrize(
    "unit",
    [
        "-",
        "a ",
        "?token",
        "key=",
        "://a:",
        "x-",
        'password="a\\',
        "-----BEGIN PRIVATE KEY-----",
        "eyJaaaaaaaaa.",
        "sk-",
        "{ ",
    ],
)
def test_a_hostile_text_is_read_once(unit):
    # Where a pattern went back over it, a text of two million characters would take hours.
    assert redact(unit * (2_000_000 // len(unit)))
