"""The output of an edit.

    run.json  config.yaml  documents/  edits/  tokens/  rejects/  ids/  failures/  manifests/  summary.json

Rule: the marks that tell readers of an edit are there before its first shard.
"""

from tailkeep.data.corpus import Contents
from tailkeep.edit.marks import NAME

CONTENTS = Contents(("documents", "parts", "edits", "tokens", "rejects", "ids"), early=frozenset({NAME}))
