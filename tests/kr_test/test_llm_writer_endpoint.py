import pytest

from tailkeep.errors import ConfigError
from tailkeep.kr_test.endpoint import MAX_ANSWER_BYTES, Endpoint, EndpointError, Reply, key_in
from tests.kr_test.server import answer, serving

KEY = "a-key-of-no-known-shape-4711"
MESSAGES = [{"role": "user", "content": "x"}]


def endpoint(url, waits=None, **choices):
    return Endpoint(url, "m", key=KEY, sleep=(waits if waits is not None else []).append, **choices)


def test_a_question_is_one_post_in_json_mode_with_the_key_in_its_header():
    with serving(answer("{}")) as server:
        assert endpoint(server.url + "/").ask(MESSAGES) == Reply("{}", 10, 5)
    ((path, headers, body),) = server.requests
    assert path == "/v1/chat/completions"
    assert headers["Authorization"] == f"Bearer {KEY}"
    assert body == {"model": "m", "messages": MESSAGES, "response_format": {"type": "json_object"}}


@pytest.mark.parametrize("url", ["http://[bad", "http://host:port/v1", "ftp://host", "https://", "host/v1"])
def test_what_is_no_web_address_is_refused(url):
    with pytest.raises(ConfigError, match=r"--endpoint: .* is no web address. Give one such as https://host/v1"):
        endpoint(url)


def test_an_endpoint_without_keys_gets_none():
    with serving(answer("{}", usage=False)) as server:
        assert Endpoint(server.url, "m").ask(MESSAGES) == Reply("{}")
    assert "Authorization" not in server.requests[0][1]


@pytest.mark.parametrize("fault", [(429, {}, ""), (500, {}, "x"), (503, {}, ""), "cut", (200, {}, "no json"), "slow"])
def test_a_busy_or_failing_endpoint_is_asked_again_after_longer_and_longer(fault):
    waits = []
    with serving(fault, fault, answer("{}")) as server:
        assert endpoint(server.url, waits, timeout=0.3 if fault == "slow" else 30).ask(MESSAGES).content == "{}"
    assert waits == [1.0, 2.0]


def test_the_wait_that_the_endpoint_asks_for_is_kept_up_to_a_minute():
    waits = []
    with serving((429, {"Retry-After": "7"}, ""), (429, {"Retry-After": "900"}, ""), answer("{}")) as server:
        endpoint(server.url, waits).ask(MESSAGES)
    assert waits == [7.0, 60.0]


def test_an_endpoint_that_keeps_failing_is_given_up_without_the_key_in_the_message():
    with serving((500, {}, f"bad {KEY}")) as server, pytest.raises(EndpointError, match="failed 3 times") as caught:
        endpoint(server.url, retries=2).ask(MESSAGES)
    assert len(server.requests) == 3
    assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        ((401, {}, f"wrong key {KEY}"), r"refuses the key \(HTTP 401: wrong key \[redacted\]\)"),
        ((403, {}, ""), "refuses the key"),
        ((404, {}, "no such model"), r"refuses the request \(HTTP 404: no such model\)"),
        ((307, {"Location": "http://127.0.0.1:1/"}, ""), "sends on to another address"),
    ],
)
def test_a_refusal_is_final(reply, message):
    with serving(reply) as server, pytest.raises(EndpointError, match=message) as caught:
        endpoint(server.url).ask(MESSAGES)
    assert len(server.requests) == 1
    assert KEY not in str(caught.value)


def test_an_address_where_nothing_listens_is_named():
    with pytest.raises(EndpointError, match=r"127\.0\.0\.1:9 failed 2 times.*refused"):
        endpoint("http://127.0.0.1:9/v1", retries=1).ask(MESSAGES)


def test_a_key_that_comes_back_is_hidden():
    with serving(answer(f"your key is {KEY}")) as server:
        assert endpoint(server.url).ask(MESSAGES).content == "your key is [redacted]"


@pytest.mark.parametrize("body", ["[]", '{"choices": []}', '{"choices": [{"message": {"content": null}}]}', "3"])
def test_an_answer_without_text_is_a_refusal(body):
    with serving((200, {}, body)) as server:
        assert endpoint(server.url).ask(MESSAGES) == Reply("")


@pytest.mark.parametrize("url", ["ftp://x/v1", "localhost:8000", "https://", "https://u:p@x/v1", "https://x/v1?key=1"])
def test_an_address_that_is_none_or_holds_a_credential_is_refused(url):
    with pytest.raises(ConfigError, match="--endpoint"):
        Endpoint(url, "m")


def test_the_key_comes_from_the_variable_that_is_named(monkeypatch):
    monkeypatch.setenv("SOME_PLACE", f" {KEY}\n")
    assert key_in("SOME_PLACE") == KEY
    assert key_in("") is None
    assert KEY not in repr(Endpoint("https://x/v1", "m", key=KEY))
    monkeypatch.setenv("SOME_PLACE", "a\nb")
    with pytest.raises(ConfigError, match="SOME_PLACE holds characters"):
        key_in("SOME_PLACE")
    monkeypatch.delenv("SOME_PLACE")
    with pytest.raises(ConfigError, match="SOME_PLACE holds no key"):
        key_in("SOME_PLACE")


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_a_redirect_never_carries_the_key_to_another_host(code):
    with serving(answer("{}")) as other, serving((code, {"Location": f"{other.url}/elsewhere"}, "")) as server:
        with pytest.raises(EndpointError, match="sends on to another address"):
            endpoint(server.url).ask(MESSAGES)
        assert len(server.requests) == 1
        assert other.requests == []


def test_an_answer_is_bounded_in_size_depth_and_time():
    large = answer("x" * (MAX_ANSWER_BYTES + 1))
    with serving(large) as server, pytest.raises(EndpointError, match="more than 8,388,608 bytes"):
        endpoint(server.url, retries=0).ask(MESSAGES)
    deep = (200, {}, "[" * 100_000)
    with serving(deep) as server, pytest.raises(EndpointError, match="nested too deeply"):
        endpoint(server.url, retries=0).ask(MESSAGES)
    ticks = iter(range(0, 100_000, 7))
    with serving(answer("x" * 1_000_000)) as server, pytest.raises(EndpointError, match="no whole answer within 10 s"):
        endpoint(server.url, retries=0, total_timeout=10.0, clock=lambda: next(ticks)).ask(MESSAGES)


@pytest.mark.parametrize("text", ["x" * (MAX_ANSWER_BYTES + 1), "x" * 1_000_000], ids=["large", "slow"])
def test_the_text_of_an_error_is_bounded_as_an_answer_is(text):
    ticks = iter(range(0, 100_000, 7))
    with serving((404, {}, text)) as server, pytest.raises(EndpointError, match=r"HTTP 404: no text"):
        endpoint(server.url, total_timeout=10.0, clock=lambda: next(ticks)).ask(MESSAGES)
