"""An audit whose input lies in a bucket of a real local server that speaks S3."""

import pytest

from tailkeep.audit import run
from tests.audit.conftest import left_by
from tests.edit.s3_server import BUCKET, running
from tests.edit.test_object_store import without_times

# The client's own: it closes its connections in a thread of its own, or not before the process ends.
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:Unclosed:ResourceWarning"),
]


@pytest.mark.slow
def test_a_bucket_is_audited_as_a_folder_is(corpus, reference, tmp_path):
    local = run({}, corpus, tmp_path / "here", reference=reference)
    with running() as server:
        server.store().put(f"{corpus}/", f"{BUCKET}/in/", recursive=True)
        remote = run({}, f"s3://{BUCKET}/in", tmp_path / "there", reference=reference)
    assert remote.summary == local.summary
    assert without_times(left_by(tmp_path / "there")) == without_times(left_by(tmp_path / "here"))
