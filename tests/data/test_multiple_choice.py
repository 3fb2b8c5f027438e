import json
import zipfile

import pytest

from tailkeep.data import MultipleChoice, read_answered, read_choices, read_minimal_pairs
from tailkeep.data.corpus import Layout
from tailkeep.errors import InputError


def lines(path, *items):
    path.write_text("\n".join(item if isinstance(item, str) else json.dumps(item) for item in items) + "\n")
    return path


def item(number, gold=0):
    return {"query": f"q{number}", "choices": [f"a{number}", f"b{number}"], "gold": gold}


def test_items_are_read_as_they_stand(tmp_path):
    path = lines(tmp_path / "c.jsonl", item(0, 1), {"query": "Why?", "choices": [" x ", "y", "z"], "gold": 2})
    assert read_choices(path) == [MultipleChoice("q0", ("a0", "b0"), 1), MultipleChoice("Why?", ("x", "y", "z"), 2)]


@pytest.mark.parametrize(
    ("query", "prompt"),
    [
        ("Question: why?\n", "Question: why?\nAnswer:"),
        ("Passage: a b\nQuestion: why?", "Passage: a b\nQuestion: why?\nAnswer:"),
        ("Question: why?\nAnswer:", "Question: why?\nAnswer:"),
        ("The Question: of", "The Question: of"),
    ],
)
def test_a_question_is_followed_by_a_line_for_its_answer(tmp_path, query, prompt):
    (choice,) = read_choices(lines(tmp_path / "c.jsonl", {"query": query, "choices": ["a", "b"], "gold": 0}))
    assert choice.query == prompt


def test_a_part_is_sampled_by_its_seed_and_in_the_files_order(tmp_path):
    path = lines(tmp_path / "c.jsonl", *(item(n) for n in range(50)))
    sampled = [read_choices(path, limit=10, seed=seed) for seed in (0, 0, 1)]
    assert sampled[0] == sampled[1] != sampled[2]
    assert len(sampled[0]) == 10
    numbers = [int(choice.query[1:]) for choice in sampled[0]]
    assert numbers == sorted(numbers)
    assert len(read_choices(path, limit=100)) == 50


def test_skipped_items_are_never_returned(tmp_path):
    path = lines(tmp_path / "c.jsonl", *(item(n) for n in range(50)))
    assert [choice.query for choice in read_choices(path, skip=48)] == ["q48", "q49"]
    sampled = read_choices(path, skip=20, limit=10, seed=3)
    assert min(int(choice.query[1:]) for choice in sampled) >= 20
    with pytest.raises(InputError, match="holds 50 questions, and 50 are to be skipped"):
        read_choices(path, skip=50)


def test_training_texts_have_the_form_of_the_queries(tmp_path):
    path = lines(tmp_path / "c.jsonl", {"query": "Question: why?\n", "choices": ["x", "y"], "gold": 1}, item(3))
    assert read_answered(path) == ["Question: why?\nAnswer: y", "q3 a3"]
    problem = {"question": "What is 2 + 2?", "answer": "Think.\n#### 4"}
    assert read_answered(lines(tmp_path / "g.jsonl", problem)) == ["Question: What is 2 + 2?\nAnswer: Think.\n#### 4"]
    with pytest.raises(InputError, match="holds no question"):
        read_answered(lines(tmp_path / "e.jsonl", ""))


def test_a_gsm8k_answer_stands_among_those_of_three_other_problems(tmp_path):
    problems = [{"question": f"What is {n}?", "answer": f"Think.\n#### {n % 7}"} for n in range(40)]
    items = read_choices(lines(tmp_path / "g.jsonl", *problems))
    for number, choice in enumerate(items):
        assert choice.query == f"Question: What is {number}?\nAnswer:"
        assert choice.choices[choice.gold] == str(number % 7)
        assert len(set(choice.choices)) == 4
        assert set(choice.choices) <= set("0123456")
    # The right answer stands at no particular place.
    assert {choice.gold for choice in items} == {0, 1, 2, 3}


def test_a_wrong_choice_is_never_the_right_number_spelled_otherwise(tmp_path):
    answers = ["1,000", "1000", "$1000", "1000.", "1000.00", "5", "5.0", "6", "7"]
    problems = [{"question": f"What is {n}?", "answer": f"#### {answer}"} for n, answer in enumerate(answers)]
    for number, choice in enumerate(read_choices(lines(tmp_path / "g.jsonl", *problems))):
        assert choice.choices[choice.gold] == answers[number]
        assert len({float(text.replace(",", "").strip("$.")) for text in choice.choices}) == 4
    few = [{"question": "?", "answer": f"#### {answer}"} for answer in answers[:8]]
    with pytest.raises(InputError, match=r"3 different answers\. Give at least 4"):
        read_choices(lines(tmp_path / "few.jsonl", *few))


def test_the_size_of_a_gsm8k_answer_gives_nothing_away(tmp_path):
    # Small answers are common and large ones are all different, as in GSM8K.
    answers = [n % 10 if n % 2 else 1000 + n for n in range(1200)]
    problems = [{"question": f"What is {n}?", "answer": f"#### {answer}"} for n, answer in enumerate(answers)]
    items = read_choices(lines(tmp_path / "g.jsonl", *problems))
    smallest = [min(choice.choices, key=int) == choice.choices[choice.gold] for choice in items]
    assert 0.2 < sum(smallest) / len(items) < 0.3


def test_the_items_of_a_part_are_those_of_the_whole(tmp_path):
    problems = [{"question": f"What is {n}?", "answer": f"#### {n}"} for n in range(30)]
    path = lines(tmp_path / "g.jsonl", *problems)
    assert set(read_choices(path, limit=5)) <= set(read_choices(path))


PAIR = {"sentence_good": "He runs.", "sentence_bad": "He run.", "UID": "x"}


def test_minimal_pairs_come_from_a_folder_or_an_archive(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    for name in ("b", "a"):
        lines(folder / f"{name}.jsonl", PAIR, PAIR | {"sentence_good": f"{name} sees."})
    with zipfile.ZipFile(tmp_path / "blimp.zip", "w") as archive:
        for name in ("b", "a"):
            archive.write(folder / f"{name}.jsonl", f"data/{name}.jsonl")
            archive.writestr(f"__MACOSX/data/._{name}.jsonl", b"\xb0")
    items = read_minimal_pairs(folder)
    assert list(items) == ["a", "b"]
    assert items["a"] == [MultipleChoice("", ("He runs.", "He run."), 0), MultipleChoice("", ("a sees.", "He run."), 0)]
    assert read_minimal_pairs(tmp_path / "blimp.zip") == items
    assert {name: len(pairs) for name, pairs in read_minimal_pairs(folder, limit=1).items()} == {"a": 1, "b": 1}


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ("{", r"line 2: not JSON"),
        ("[1]", "line 2: expected an object, got list"),
        ({"query": "q", "choices": ["a"], "gold": 0}, r"line 2: 'choices' is \['a'\]"),
        ({"query": "q", "choices": ["a", " "], "gold": 0}, "line 2: 'choices' is"),
        ({"query": "q", "choices": ["a", "b"], "gold": 2}, "line 2: 'gold' is 2"),
        ({"query": "q", "choices": ["a", "b"], "gold": True}, "line 2: 'gold' is True"),
        ({"query": " ", "choices": ["a", "b"], "gold": 0}, "line 2: 'query' is ' '"),
    ],
)
def test_an_invalid_line_is_named(tmp_path, wrong, reason):
    with pytest.raises(InputError, match=reason):
        read_choices(lines(tmp_path / "c.jsonl", item(0), wrong))


def test_files_that_hold_no_test_are_an_error(tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InputError, match="holds no question"):
        read_choices(lines(tmp_path / "c.jsonl", ""))
    with pytest.raises(InputError, match="4 problems"):
        read_choices(lines(tmp_path / "g.jsonl", {"question": "q", "answer": "#### 1"}))
    with pytest.raises(InputError, match="no '#### '"):
        read_choices(lines(tmp_path / "g.jsonl", {"question": "q", "answer": "1"}))
    with pytest.raises(InputError, match=r"holds no \.jsonl file"):
        read_minimal_pairs(empty)
    with pytest.raises(InputError, match="cannot read"):
        read_minimal_pairs(lines(tmp_path / "not.zip", "text"))
    (tmp_path / "a").mkdir()
    lines(tmp_path / "a" / "a.jsonl", {"sentence_good": "x"})
    with pytest.raises(InputError, match=r"a: a\.jsonl, line 1: the key 'sentence_bad' is missing"):
        read_minimal_pairs(tmp_path / "a")


def test_an_archive_of_minimal_pairs_that_cannot_be_used_is_one_clear_error(tmp_path):
    empty, twice, locked = tmp_path / "empty", tmp_path / "twice.zip", tmp_path / "locked.zip"
    empty.mkdir()
    (empty / "p.jsonl").touch()
    with zipfile.ZipFile(twice, "w") as archive:
        for folder in ("a", "b"):
            archive.writestr(f"{folder}/p.jsonl", json.dumps(PAIR) + "\n")
    raw = bytearray(twice.read_bytes())
    # The bit that says that a file is encrypted, in its own header and in the directory at the end.
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        raw[raw.find(mark) + place] |= 1
    locked.write_bytes(raw)
    for path, message in (
        (empty, "p.jsonl holds no pair"),
        (twice, "two files called p.jsonl"),
        (locked, "is encrypted"),
    ):
        with pytest.raises(InputError, match=message):
            read_minimal_pairs(path)


@pytest.fixture
def count_unpacked(monkeypatch):
    """The number of bytes that reading an archive takes out of it, and the message with which it is refused."""
    sizes = []
    read = zipfile.ZipExtFile.read

    def counting_read(self, n=-1):
        sizes.append(len(block := read(self, n)))
        return block

    monkeypatch.setattr("zipfile.ZipExtFile.read", counting_read)

    def count(path):
        sizes.clear()
        with pytest.raises(InputError) as refused:
            read_minimal_pairs(path)
        return sum(sizes), str(refused.value)

    return count


def hostile_archive(path, size, method=zipfile.ZIP_DEFLATED, files=1):
    with zipfile.ZipFile(path, "w", method) as archive:
        for number in range(files):
            archive.writestr(f"{number}.jsonl", b" " * (size // files))
    return path


@pytest.mark.parametrize("files", [1, 16])
def test_an_archive_with_more_than_any_test_is_refused_before_any_of_it_is_unpacked(
    files, tmp_path, monkeypatch, count_unpacked
):
    monkeypatch.setattr("tailkeep.data.multiple_choice.MAX_ARCHIVE_BYTES", 1 << 20)
    for size in (2 << 20, 8 << 20, 32 << 20):
        unpacked, message = count_unpacked(hostile_archive(tmp_path / "bomb.zip", size, files=files))
        assert unpacked == 0
        assert f"{size:,} bytes of .jsonl files, more than 1,048,576" in message


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_compression_that_zipfile_unpacks_without_a_bound_is_refused_before_it_does(method, tmp_path, count_unpacked):
    for size in (1 << 20, 8 << 20):
        unpacked, message = count_unpacked(hostile_archive(tmp_path / "bomb.zip", size, method))
        assert unpacked == 0
        assert f"0.jsonl is compressed with method {method}. Pack it with deflate" in message


def test_of_a_file_whose_header_says_too_little_no_more_than_that_is_unpacked(tmp_path, count_unpacked):
    for size in (1 << 20, 4 << 20, 16 << 20):
        path = hostile_archive(tmp_path / "liar.zip", size)
        raw = bytearray(path.read_bytes())
        entry = raw.find(b"PK\x01\x02")
        raw[entry + 24 : entry + 28] = (1000).to_bytes(4, "little")
        path.write_bytes(raw)
        unpacked, message = count_unpacked(path)
        assert unpacked <= 1000
        assert "Bad CRC-32" in message


def test_a_file_whose_header_says_too_much_is_one_clear_error(tmp_path, count_unpacked):
    path = hostile_archive(tmp_path / "liar.zip", 1 << 10, zipfile.ZIP_STORED)
    raw = bytearray(path.read_bytes())
    entry = raw.find(b"PK\x01\x02")
    raw[entry + 20 : entry + 28] = (1 << 27).to_bytes(4, "little") * 2
    path.write_bytes(raw)
    assert "cannot read" in count_unpacked(path)[1]


def test_more_white_space_than_a_document_may_be_long_is_one_clear_error(tmp_path, monkeypatch, count_unpacked):
    monkeypatch.setattr("tailkeep.data.corpus.shard_io.Layout", lambda: Layout(max_document_bytes=1 << 10))
    with zipfile.ZipFile(tmp_path / "blank.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("p.jsonl", b"\n" * (1 << 20))
    assert "more than 1024 bytes of consecutive white space" in count_unpacked(tmp_path / "blank.zip")[1]
