"""Write ``docs/gate-measurements.md`` from the results of the gate's benchmarks.

python benchmarks/gate_page.py
"""

from pathlib import Path
from statistics import mean

from gate_page_digits import (
    anomaly_section,
    attack_section,
    coverage_section,
    percent,
    read,
    table,
)

PAGE = Path(__file__).resolve().parent.parent / "docs" / "gate-measurements.md"
TOP = """# What was measured of the gate

Made by `benchmarks/gate_page.py` from the rows in `benchmarks/results/gate_*.json`; the script that makes
each row is named in its section. How to use the gate: [gate.md](gate.md); what is proved:
[theory.md](theory.md), section 8. Digits are scikit-learn's 1,797 images: 900 to train on, 450 to
check and calibrate with, 447 to report on, never used to build anything. Five seeds, 0 to 4, each
with its own division and network; what was tuned was tuned on other seeds.
"""


def statistics_section() -> str:
    """Calibration, selection, shift and sample sizes."""
    found = read("statistics")
    calibration, curse = found["calibration"], found["winner's curse"]
    shift = found["reweighting"]
    return f"""
## Statistics

`python benchmarks/gate_statistics.py`.

- Calibration (G2b), {calibration["repetitions"]:,} repetitions, n = {calibration["n"]}, delta = \
{calibration["delta"]}, alpha = {calibration["alpha"]}: violated in \
{percent(calibration["violated"]["fixed sequence"])} of the runs (at most \
{percent(calibration["limit"])} is within three standard errors); choosing by the plain estimate is \
violated in {percent(calibration["violated"]["plug-in"])}.
- Winner's curse, {curse["events"]} independent events, {curse["samples"]} samples, the best pair, a \
99 % bound: wrong in {percent(curse["wrong"]["same data"])} of the runs when counted on the data that \
suggested it, in {percent(curse["wrong"]["held out"], 2)} on later data.
- Shift (G2c), ratios up to {shift["largest ratio"]}, {shift["runs"]} runs: {shift["above B delta"]} \
risks above B delta.
- Clean labelled inputs for a risk bound at 95 % / 99.9 %: \
{"; ".join(f"{k}: {v[0]:,} / {v[1]:,}" for k, v in found["sample sizes"]["clean samples at 95 %, 99.9 %"].items())}.
"""


def proof_section() -> str:
    """Attacks on certificates, edits, free sites, classes."""
    soundness, edits, free = read("soundness"), read("edits"), read("free_sites")
    accepted = sum(
        count
        for kinds in soundness["tampered_by_kind"].values()
        for name, count in kinds.items()
        if name == "accepted"
    )
    networks = [name for name in free["seeds"][0] if name != "seed"]
    rows = []
    for name in networks:
        same = [seed[name] for seed in free["seeds"]]
        rows.append(
            [
                name,
                percent(mean(s["model wrong"] for s in same), 2),
                f"{mean(s['free']['greedy'] for s in same):.1f}",
                f"{mean(s['free']['slopes and splits'] for s in same):.1f}",
                f"{mean(s['never on in training'] for s in same):.1f}",
                f"{sum(s['cells refuted'] for s in same)} of {sum(s['cells attacked'] for s in same)}",
            ]
        )
    shares = [
        [name, f"{100 * s['mean']:.2f} ± {100 * s['sd']:.2f} %"]
        for name, s in edits["shares"].items()
        if not name.startswith("individually free")
    ]
    classes = [
        [
            row["model"],
            row["theorem"],
            f"{row['coverage_decimal']:.6f}",
            "yes" if row["equals_the_bound"] else "no",
            f"{row['sampled_admitted_wrong']} of {row['sampled_admitted']:,}",
        ]
        for row in read("classes")
    ]
    head = ["network", "error", "greedy", "slopes and splits", "never on in training", "refuted"]
    return f"""
## Certificates

`python benchmarks/gate_soundness.py`: {soundness["points"]:,} points, random and by gradient, in \
{soundness["cells"]} certified cells of nine networks and cuts: {soundness["violations"]} below the certified \
margin. {soundness["tampered"]} tampered certificates: {accepted} accepted, none of them false (a \
tampered certificate may still be true).

`python benchmarks/gate_edits.py`: ablation is no proof. 64-32-32-10, behind the first ReLU, five seeds; \
{edits["false_safe"]} edits called safe that are not.

{table(["of all pairs of an input and a neuron, or of inputs", "share"], shares)}
`python benchmarks/gate_free_sites.py`: sites of 32 that may *jointly* take any value seen in training, \
proved, mean over test images and five seeds.

{table(head, rows)}
`python benchmarks/gate_classes.py`: the classes of a class-wise theorem as cells (G4).

{table(["model", "theorem", "coverage", "equals the bound", "wrong among sampled admitted"], classes)}"""


def explaining_section() -> str:
    """Pairs, ladders and the rule of two events."""
    ladder = read("ladder")
    pairs = [
        [
            f"{row['layer']}",
            {2: "median", 3: "terciles"}[row["bins"]],
            *(
                f"{row['nats'][name][0]:.2f}"
                for name in ("independent", "weights", "class", "both")
            ),
            f"{row['nats']['floor'][0]:.2f}",
            percent(row["removed"]["weights"][0]),
            percent(row["removed"]["class"][0]),
        ]
        for row in ladder["pairs_summary"]
    ]
    runs = [
        [
            f"{'+'.join(run['groups'])}, seed {run['seed']}",
            f"{run['watched_bits'][0]:,.0f}",
            f"{run['watched_bits'][-1]:,.0f}",
            f"{sum(run['falls_on_watched'])} of {run['accepted']}",
            f"{run['largest_unexplained_bits']:.0f}",
        ]
        for run in ladder["ladder"]
    ]
    example = [
        [
            f"{row['n']:,}",
            f"{row['marginals_only']:.4f}",
            f"{row['with_rule']:.4f}",
            f"{row['direct']:.4f}",
        ]
        for row in ladder["users_example"]
    ]
    heads = [
        [
            "layer",
            "bins",
            "independent",
            "weights",
            "class",
            "both",
            "floor",
            "by weights",
            "by class",
        ],
        [
            "run",
            "bits before",
            "bits after",
            "rules that make it shorter",
            "largest surprise left, bits",
        ],
        ["n", "marginals alone", "with the rule", "counted directly"],
    ]
    return f"""
## Explaining from nothing

`python benchmarks/gate_ladder.py`. Surprise of pairs of neurons on fresh data, nats a pair, and how much
of the excess over the floor is removed by predictions from the weights alone (no joint count) and by
the class:

{table(heads[0], pairs)}
From an empty ledger: bits of the ledger and of 447 images that are only watched (scaled to 900), before
and after; every rule was also required to shorten the data that decided it.

{table(heads[1], runs)}
A fires in 10 % of the inputs, B in 10 %, and B in 90 % of those where A fires: the proved lower
probability of both, before and after the rule.

{table(heads[2], example)}"""


def cost_section() -> str:
    """An admission, a batch and the service."""
    cost, serving = read("admission"), read("serving")
    rows = [
        [
            str(row["clients"]),
            str(row["inputs_a_request"]),
            f"{row['requests']:,}",
            str(row["wrong_or_lost"]),
            f"{row['requests_per_second']:,.0f}",
            f"{row['inputs_per_second']:,.0f}",
            f"{row['median_ms']:.1f}",
        ]
        for row in serving["rows"]
    ]
    one, words, batch = (
        cost[key]["cpu"]
        for key in ("ms_one_input", "ms_one_input_with_reasons", "ms_batch_of_1000")
    )
    head = ["clients", "inputs a request", "requests", "wrong or lost"]
    return f"""
## Cost

`python benchmarks/gate_admission.py`: {cost["cells"]} cells of 32 sites ({cost["admitting"]} with all \
warrants), {percent(cost["share_admitted"])} admitted. One input {one:.2f} ms, with the words of a \
refusal {words:.2f} ms; a batch of 1,000 {batch:.0f} ms of CPU time. Built in \
{cost["seconds_to_build"]:.0f} s, opened with every certificate replayed in {cost["seconds_to_open"]:.1f} s.

`python benchmarks/gate_serving.py`: `gate serve` on two cores that its clients share.

{table([*head, "requests/s", "inputs/s", "median ms"], rows)}"""


def main() -> None:
    sections = (
        coverage_section,
        attack_section,
        anomaly_section,
        statistics_section,
        proof_section,
        explaining_section,
        cost_section,
    )
    PAGE.write_text(TOP + "".join(section() for section in sections))


if __name__ == "__main__":
    main()
