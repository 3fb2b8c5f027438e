import bz2
import gzip
import json
import lzma

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailkeep.data import TextRecord, read_documents, read_prompted, read_records
from tailkeep.errors import InputError


@pytest.fixture
def write(tmp_path):
    def write(content, name="corpus.txt"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


@pytest.mark.parametrize(
    ("separator", "documents"),
    [
        ("file", ["one\ntwo\n\nthree\n  \nfour | five"]),
        ("line", ["one", "two", "three", "four | five"]),
        ("blank-line", ["one\ntwo", "three", "four | five"]),
        (" | ", ["one\ntwo\n\nthree\n  \nfour", "five"]),
    ],
)
def test_a_text_is_cut_at_its_separator(write, separator, documents):
    path = write("one\ntwo\n\nthree\n  \nfour | five\n")
    assert read_documents(path, separator=separator) == documents


@pytest.mark.parametrize(
    ("separator", "lines"), [("file", [2]), ("line", [2, 3, 5, 7]), ("blank-line", [2, 5, 7]), (" | ", [2, 7])]
)
def test_a_document_knows_the_line_in_which_it_begins(write, separator, lines):
    path = write("\n \none\ntwo\n\nthree\n  \nfour | five\n")
    records = read_records(path, separator=separator)
    assert [document.line for document in records] == lines
    assert [document.text for document in records] == read_documents(path, separator=separator)


def test_lines_of_jsonl_count_those_without_a_document(write):
    path = write('{"text": " "}\n\n{"text": "a\\nb"}\n{"text": "c"}\n', "corpus.jsonl")
    assert read_records(path) == [TextRecord("a\nb", line=2), TextRecord("c", line=3)]


def test_a_separator_of_several_lines_is_counted(write):
    records = read_records(write("a\n--\n--\nb\n--\n--\nc"), separator="--\n--\n")
    assert [(record.line, record.text) for record in records] == [(0, "a"), (3, "b"), (6, "c")]


def test_white_space_around_documents_and_empty_documents_vanish(write):
    assert read_documents(write("  a \n\n \t\n b\u00a0\n"), separator="line") == ["a", "b"]


def test_a_byte_order_mark_and_foreign_line_breaks_are_no_text(write):
    assert read_documents(write(b"\xef\xbb\xbfa\r\nb\rc"), separator="line") == ["a", "b\nc"]
    assert read_documents(write(b"a\r\nb\r\n\r\nc"), separator="blank-line") == ["a\nb", "c"]


def test_only_line_breaks_end_a_line(write):
    assert read_documents(write("a\x0cb\u2028c\x85d\ne"), separator="line") == ["a\x0cb\u2028c\x85d", "e"]


def test_jsonl_gives_the_field_of_each_line(write):
    lines = [{"text": " a\nb "}, {"text": "", "id": 1}, {"text": "ü\u202e"}]
    path = write("\n".join(map(json.dumps, lines)) + "\n\n", "corpus.jsonl")
    assert read_documents(path) == ["a\nb", "ü\u202e"]


def test_jsonl_can_name_another_field(write):
    assert read_documents(write('{"body": "a"}', "corpus.jsonl"), field="body") == ["a"]


plain = st.text(st.characters(codec="utf-8", exclude_characters="\r"), min_size=1).map(str.strip).filter(bool)


@settings(deadline=None)
@given(documents=st.lists(plain.filter(lambda text: "\n" not in text and "\ufeff" not in text), min_size=1))
def test_documents_written_line_by_line_are_read_back(tmp_path_factory, documents):
    path = tmp_path_factory.mktemp("corpus") / "corpus.txt"
    path.write_bytes("\n".join(documents).encode())
    assert read_documents(path, separator="line") == documents


@settings(deadline=None)
@given(documents=st.lists(plain, min_size=1))
def test_documents_written_as_jsonl_are_read_back(tmp_path_factory, documents):
    path = tmp_path_factory.mktemp("corpus") / "corpus.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in documents))
    assert read_documents(path) == documents


def test_a_missing_file_and_an_empty_folder_are_named(tmp_path):
    for path in (tmp_path / "none.txt", tmp_path):
        with pytest.raises(InputError, match=f"{path} matches no file"):
            read_documents(path, separator="line")


@pytest.mark.parametrize("ending", ["jsonl", "NDJSON", "json", "csv", "jsonl.gz", "json.bz2", "csv.xz"])
def test_a_corpus_is_its_texts_whatever_its_format(write, ending):
    texts = ["one, two", 'a "word"', "new\nline"]
    content = {
        "json": json.dumps([{"text": text} for text in texts]),
        "csv": "id,text\n" + "".join(f'{n},"{text.replace(chr(34), chr(34) * 2)}"\n' for n, text in enumerate(texts)),
    }.get(ending.partition(".")[0], "".join(json.dumps({"text": text}) + "\n" for text in texts))
    pack = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}.get(ending.partition(".")[2], bytes)
    assert read_documents(write(pack(content.encode()), f"corpus.{ending}")) == texts


def test_the_documents_of_a_folder_are_numbered_over_all_its_files(tmp_path):
    (tmp_path / "a.txt").write_text("one\n\ntwo")
    (tmp_path / "b.jsonl").write_text('{"text": "three"}\n')
    assert [(record.text, record.line) for record in read_records(tmp_path)] == [("one", 0), ("two", 1), ("three", 2)]
    # As questions number them: an empty file, wherever it stands, has none.
    for name in ("0.txt", "a1.txt"):
        (tmp_path / name).write_text("")
    assert [record.line for record in read_records(tmp_path)] == [0, 1, 2]
    (tmp_path / "c.bin").write_bytes(b"?")
    with pytest.raises(InputError, match=r"1 of 5 files have an unknown ending: 'c\.bin'"):
        read_records(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"ok\nd\xe9j\xe0", "byte 0xe9 at offset 4, line 2"),
        (b"\xef\xbb\xbfok\n\xff", "byte 0xff at offset 6, line 2"),
        (b"\xc3", "byte 0xc3 at offset 0, line 1"),
    ],
)
def test_bytes_that_are_not_utf8_are_named_with_their_place(write, content, message):
    with pytest.raises(InputError, match=message):
        read_documents(write(content), separator="line")


@pytest.mark.parametrize("content", ["", "\n \n\t\n", "\ufeff"])
def test_a_corpus_without_text_is_an_error(write, content):
    with pytest.raises(InputError, match="holds no document"):
        read_documents(write(content), separator="line")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{'text': 1}", "line 2: not JSON"),
        ('["a"]', "line 2: expected an object, got list"),
        ('{"body": "a"}', r"line 2: the field 'text' is missing; there are \['body'\]"),
        ('{"text": 1}', "line 2: the field 'text' is of type int"),
        ('{"text": "\\ud83d"}', "line 2: half a surrogate pair at character 0"),
        ("[" * 100_000, "line 2: not JSON"),
    ],
)
def test_a_line_that_holds_no_document_is_named(write, line, message):
    with pytest.raises(InputError, match=message):
        read_documents(write('{"text": "a"}\n' + line, "corpus.jsonl"))


def test_an_empty_separator_is_an_error(write):
    with pytest.raises(InputError, match="separator is empty"):
        read_documents(write("a"), separator="")


def test_a_record_is_a_prompt_on_its_own_lines_and_a_text(write):
    lines = '{"q": "", "a": "no question"}\n{"q": " 1 + 1? ", "a": "2 "}\n{"q": "no answer?", "a": " "}\n'
    (record,) = read_prompted(write(lines, "corpus.jsonl"), prompt_field="q", field="a")
    assert (record.prompt, record.text, record.full_text, record.line) == ("1 + 1?", "2", "1 + 1?\n2", 1)
    assert record.full_text[record.text_start :] == record.text


def test_a_document_without_a_prompt_is_its_text():
    assert (TextRecord("a").full_text, TextRecord("a").text_start) == ("a", 0)


def test_a_file_without_a_whole_record_is_an_error(write):
    with pytest.raises(InputError, match="no record with both 'q' and 'a'"):
        read_prompted(write('{"q": "", "a": "b"}\n', "corpus.jsonl"), prompt_field="q", field="a")
