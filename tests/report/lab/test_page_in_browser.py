"""The page in headless Chromium."""

import shutil
import subprocess
from html.parser import HTMLParser

import pytest

CHROMIUM = shutil.which("chromium")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.chromium,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's chromium; install it with apt-get install chromium"),
]


def open_page(page, profile, *options):
    command = [
        *(CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
        *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars"),
        *(f"--user-data-dir={profile}", "--enable-logging=stderr", "--v=0", *options, page.as_uri()),
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)


class Tags(HTMLParser):
    def __init__(self, html):
        super().__init__()
        self.seen = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))


@pytest.mark.parametrize("name", ["language", "numbers", "hostile"])
def test_a_browser_finds_no_script_and_logs_no_message(name, request, tmp_path):
    done = open_page(request.getfixturevalue(name) / "report.html", tmp_path, "--dump-dom")
    tags = Tags(done.stdout).seen
    assert sum(tag == "figure" for tag, _ in tags) > 0
    assert not any(tag == "script" or any(key.startswith("on") for key in attributes) for tag, attributes in tags)
    assert "CONSOLE" not in done.stderr
    assert "Content Security Policy" not in done.stderr


def test_the_policy_stops_a_script_that_got_in(hostile, tmp_path):
    page = tmp_path / "page.html"
    html = (hostile / "report.html").read_text(encoding="utf-8")
    page.write_text(html.replace("<main>", "<main><script>document.title = 'run'</script>"), encoding="utf-8")
    done = open_page(page, tmp_path / "profile", "--dump-dom")
    assert "<title>run</title>" not in done.stdout
    assert "Content Security Policy" in done.stderr


@pytest.mark.parametrize("width", [500, 800, 1400])
@pytest.mark.parametrize("name", ["language", "hostile"])
def test_the_page_is_never_wider_than_the_window(name, width, request, tmp_path):
    page = tmp_path / "page.html"
    html = (request.getfixturevalue(name) / "report.html").read_text(encoding="utf-8")
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    probe = "<script>document.title = document.documentElement.scrollWidth + ' of ' + innerWidth</script></body>"
    page.write_text(html.replace(policy, "").replace("</body>", probe), encoding="utf-8")
    done = open_page(page, tmp_path / "profile", f"--window-size={width},900", "--dump-dom")
    title = done.stdout.partition("<title>")[2].partition("</title>")[0]
    assert title == f"{width} of {width}"


def test_the_page_prints(language, tmp_path):
    target = tmp_path / "page.pdf"
    open_page(language / "report.html", tmp_path / "profile", f"--print-to-pdf={target}")
    assert target.read_bytes().startswith(b"%PDF")
