"""Templates and boilerplate: what many documents share is found, and prose that happens to agree is none."""

import csv
import importlib
import io
import json
import pydoc
import random

import pytest

from tailkeep.audit.config import AuditConfig, parse_condition
from tailkeep.audit.documents import SampledDocument
from tailkeep.audit.templates import find_boilerplate

WORDS = [
    f"{first}{vowel}{last}" for first in "bdfgklmnprst" for vowel in "aeiou" for last in ("la", "ren", "sto", "mi")
]


def prose(rng, words):
    return " ".join(rng.choice(WORDS) for _ in range(words))


def letter(rng):
    """A form of 30 fixed words, with a name, a number, a date and 20 words of one's own."""
    return (
        f"Dear {prose(rng, 2)},\n\nThank you for your order {rng.randrange(10**6)} of {rng.randrange(1, 29)} May. "
        f"It has left our house today and will be with you within a few days. {prose(rng, 20)}\n\n"
        "With kind regards from all of us\nYour service team"
    )


def sample(texts):
    return [SampledDocument(n, f"file:{n:05}", str(n), len(text), text) for n, text in enumerate(texts)]


def test_prose_has_neither_templates_nor_boilerplate():
    rng = random.Random(0)
    found = find_boilerplate(sample(prose(rng, 120) for _ in range(300)))
    assert found.templates == found.spans == ()
    assert found.share == found.templated == 0


def test_the_filled_in_forms_of_a_corpus_are_one_template_with_its_skeleton():
    rng = random.Random(1)
    texts = [letter(rng) if number % 5 == 0 else prose(rng, 60) for number in range(500)]
    found = find_boilerplate(sample(texts))
    (template,) = found.templates
    assert template.documents == found.templated == 100
    assert set(template.examples) <= {f"file:{number:05}" for number in range(0, 500, 5)}
    assert 0.5 < template.fixed_share < 0.7
    pieces = template.skeleton.split(" … ")
    assert any(
        piece.endswith("may. it has left our house today and will be with you within a few days.") for piece in pieces
    )
    assert pieces[-1] == "with kind regards from all of us your service team"


def test_two_forms_are_two_templates():
    rng = random.Random(2)
    order = "Order of the court in the case {}\nThe complaint is dismissed with costs.\n{}\nSigned by the clerk"
    texts = [letter(rng) for _ in range(40)] + [order.format(rng.randrange(99), prose(rng, 30)) for _ in range(20)]
    rng.shuffle(texts)
    found = find_boilerplate(sample(texts))
    assert [template.documents for template in found.templates] == [40, 20]
    assert "the complaint is dismissed with costs." in found.templates[1].skeleton


def test_numbers_and_case_make_no_difference():
    rng = random.Random(3)
    line = "Version {} of this page was written on day {} of the year"
    texts = [f"{prose(rng, 30)}\n{line.format(rng.randrange(99), rng.randrange(365))}" for _ in range(20)]
    texts = [text.upper() if number % 2 else text for number, text in enumerate(texts)]
    found = find_boilerplate(sample(texts))
    assert found.share == pytest.approx(13 / 43)
    assert found.templates[0].documents == 20


def test_a_common_opening_is_boilerplate_and_no_template():
    rng = random.Random(4)
    found = find_boilerplate(sample(f"Once upon a time there was a {prose(rng, 120)}" for _ in range(200)))
    assert found.templates == ()
    (span,) = found.spans
    assert (span.text, span.documents) == ("once upon a time there was a", 200)
    assert found.share == pytest.approx(7 / 127)


def test_text_of_too_few_documents_is_not_shared():
    rng = random.Random(5)
    rows = [letter(rng) for _ in range(4)] + [prose(rng, 60) for _ in range(96)]
    assert find_boilerplate(sample(rows)).spans == ()
    assert find_boilerplate(sample([*rows, letter(rng)])).templated == 5


def test_the_order_of_the_sample_makes_no_difference():
    rng = random.Random(6)
    documents = sample([letter(rng) if number % 3 else prose(rng, 60) for number in range(90)])
    expected = find_boilerplate(documents)
    rng.shuffle(documents)
    assert find_boilerplate(documents) == expected
    assert expected.templated == 60


@pytest.mark.parametrize("texts", [[], [""], ["word"], ["\n \n"] * 20, ["ein wort"] * 3])
def test_hardly_any_text_has_no_template(texts):
    found = find_boilerplate(sample(texts))
    assert found.templates == ()
    assert found.documents == len(texts)


def manual_pages():
    """The pages that pydoc writes of modules of the standard library."""
    names = (
        "abc argparse array ast base64 bisect bz2 calendar cmath cmd codecs collections colorsys configparser "
        "copy csv dataclasses datetime decimal difflib dis enum fileinput fnmatch fractions ftplib functools "
        "getopt getpass glob gzip hashlib heapq hmac html inspect io ipaddress itertools json keyword "
        "linecache locale logging lzma mailbox math mimetypes netrc numbers operator os pathlib pickle "
        "platform plistlib pprint queue random re sched secrets shelve shlex shutil signal socket stat "
        "statistics string struct tempfile textwrap timeit tokenize types uuid "
    )
    return [pydoc.plain(pydoc.render_doc(importlib.import_module(name))) for name in names.split()]


def test_the_pages_of_pydoc_follow_templates_whose_skeleton_is_that_of_pydoc():
    pages = [page[: 1 << 14] for page in manual_pages()]
    found = find_boilerplate(sample(pages))
    assert found.templated > len(pages) / 2
    assert any(
        "the following documentation is automatically generated from the python source files" in template.skeleton
        for template in found.templates
    )


def test_an_audit_names_the_templates_and_a_condition_can_be_about_them(tmp_path):
    from tailkeep import audit

    rng = random.Random(7)
    rows = [json.dumps({"text": letter(rng) if number % 4 == 0 else prose(rng, 60)}) for number in range(200)]
    (tmp_path / "corpus.jsonl").write_text("\n".join(rows), encoding="utf-8")
    outcome = audit.run(AuditConfig(), tmp_path / "corpus.jsonl", tmp_path / "out")
    figures = outcome.summary["input"]
    assert (figures["templates"], figures["templated"], figures["templated_share"]) == (1, 50, 0.25)
    low, high = figures["templated_interval"]
    assert 0.19 < low < 0.25 < high < 0.32
    assert any("50 (20% to 31%) follow one template" in line for line in outcome.lines())
    (line,) = (tmp_path / "out" / "tables" / "templates.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(line)["documents"] == 50
    spans = list(csv.DictReader(io.StringIO((tmp_path / "out" / "tables" / "boilerplate.csv").read_text("utf-8"))))
    assert spans[0]["documents"] == "50"
    assert parse_condition("templated_share > 0.19").is_met(outcome.summary)
    assert not parse_condition("templated_share > 0.2").is_met(outcome.summary)
