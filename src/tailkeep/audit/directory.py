"""The output of an audit.

    run.json  config.yaml  manifests/  summary.json  tables/  lab/  report.html
    counts/  types/  frequent/  copies/  sample/  near/  scores/  rejects/

Rule: the first line is for people, the second is what shards leave, from which the first can be made again.
"""

from tailkeep.data.corpus import Contents

CONTENTS = Contents(("counts", "types", "frequent", "copies", "sample", "near", "scores", "rejects"))
