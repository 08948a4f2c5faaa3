"""Records to put into tables: plain ones, and hypothesis strategies for wild ones."""

from typing import Any

from hypothesis import strategies as st

from altgrad_inspect.records import (
    FlipCounts,
    FlipRecord,
    RankRecord,
    Spectrum,
    Status,
)

COUNTS = FlipCounts(
    num_weights=100,
    num_updated=50,
    num_flipped=10,
    num_recoded=20,
    num_scales=1,
    num_scales_changed=1,
    scale_ratio_max=1.5,
    num_expected_flips=40.0,
    num_up=6,
    num_down=4,
    num_sign_flipped=1,
    num_to_zero=2,
    num_from_zero=3,
    num_reverted=None,
    num_saturated=5,
    num_underflowed=7,
    num_nonfinite=0,
    code_step_mean=1.1,
    code_step_max=2,
    code_step_histogram=(9, 1, 0, 0, 0, 0, 0, 0, 0),
    update_norm=0.5,
    relative_update=0.05,
    update_mean_abs=0.01,
)

SPECTRUM = Spectrum(
    stable_rank=2.0,
    effective_rank=3.0,
    spectral_norm=1.0,
    frobenius_norm=2.0**0.5,
    nuclear_norm=1.75,
    numerical_rank=4,
    participation_ratio=2.5,
    outlier_share=0.25,
    method="exact",
    stable_rank_error=1e-12,
    effective_rank_error=1e-10,
    singular_values=(1.0, 0.5, 0.25, 0.0),
)


def flip_record(layer: str = "a", step: int = 1, counts: FlipCounts | None = COUNTS) -> FlipRecord:
    return FlipRecord(
        layer=layer, quantizer="e4m3:tensor:amax", step_from=step, step_to=step + 1, counts=counts
    )


def rank_record(
    layer: str = "a", step: int = 1, spectrum: Spectrum | None = SPECTRUM
) -> RankRecord:
    return RankRecord(
        layer=layer, matrix=0, subject="weight", step=step, rows=4, cols=9, spectrum=spectrum
    )


TEXTS = st.text(st.characters(codec="utf-8"), max_size=8)
INTS = st.integers(0, 2**63 - 1)
REALS = st.floats(allow_nan=False, allow_infinity=False)
SINGLES = st.floats(allow_nan=False, allow_infinity=False, width=32)
STATUSES = st.sampled_from(Status)

# Fields and not records: making a record checks its types at random elements, and strategies
# have to do the same thing each time.
SPECTRUM_FIELDS = st.fixed_dictionaries(
    {
        "stable_rank": st.floats(1, 1e6),
        "effective_rank": st.floats(1, 1e6),
        "spectral_norm": REALS,
        "frobenius_norm": REALS,
        "nuclear_norm": REALS,
        "numerical_rank": st.none() | INTS,
        "participation_ratio": REALS,
        "outlier_share": REALS,
        "method": st.sampled_from(["exact", "estimate"]),
        "stable_rank_error": REALS,
        "effective_rank_error": REALS,
        "singular_values": st.none() | st.lists(SINGLES, max_size=3).map(tuple),
    }
)

RANK_FIELDS = st.fixed_dictionaries(
    {
        "layer": TEXTS,
        "matrix": INTS,
        "subject": st.sampled_from(["weight", "update"]),
        "step": INTS,
        "rows": st.integers(1, 10**6),
        "cols": st.integers(1, 10**6),
        "spectrum": st.none() | SPECTRUM_FIELDS,
        "status": STATUSES,
        "reason": st.none() | TEXTS,
    }
)

SKIPPED_FIELDS = st.fixed_dictionaries(
    {
        "layer": TEXTS,
        "shape": st.lists(INTS, max_size=3).map(tuple),
        "dtype": TEXTS,
        "reason": TEXTS,
    }
)


def rank_record_of(fields: dict[str, Any]) -> RankRecord:
    spectrum = fields["spectrum"]
    return RankRecord(**fields | {"spectrum": Spectrum(**spectrum) if spectrum else None})
