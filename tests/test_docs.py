"""README and docs say what the committed benchmark measured, and their links lead somewhere."""

import json
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
RESULTS = json.loads((ROOT / "benchmarks" / "results" / "first_proof.json").read_text())


def test_readme_quotes_the_benchmark() -> None:
    measured = {
        (row["model"], row["prove"]["output"]["theorem"]): row["prove"]["output"]
        for row in RESULTS["proofs"]
    }
    rows = re.findall(
        r"^\| (max-of-\S+) \| (\S+) \| (\S+) \| \S+ \| (\S+) \| (\S+) \|$", README, re.M
    )
    assert len(rows) == 3
    for model, theorem, bound, flops, dimension in rows:
        found = measured[model, theorem]
        assert bound == found["bound_decimal"]
        assert flops == f"{int(found['flops']):,}"
        assert dimension == f"{int(found['unexplained_dimension']):,}"
    first = measured["max-of-4", "additive"]
    assert f"{first['correct']}/{first['total']} = {first['bound_decimal']}..." in README
    assert f"{int(first['flops']):,} FLOPs" in README and first["model_sha256"] in README


def test_links_of_readme_and_docs_lead_somewhere() -> None:
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
