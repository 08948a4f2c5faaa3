"""What all recipes have in common, and what some do that no formula shows."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from altgrad_inspect.formats import FloatFormat
from altgrad_inspect.metrics.flips import FlipMeter
from altgrad_inspect.quantize.grids import encode_ordinals, nan_ordinal
from altgrad_inspect.quantize.quantizer import MasterCast, ScaleRule, Ties
from altgrad_inspect.quantize.recipes import RECIPES
from altgrad_inspect.quantize.rules import LOOKING_BACK, RULES, fit_scales
from altgrad_inspect.quantize.rules.arithmetic import ceil_log2, floor_log2, power_of_two
from altgrad_inspect.quantize.same_grids import group_same_grids, is_same_grid
from altgrad_inspect.quantize.scales import view_for
from altgrad_inspect.quantize.spec import RECIPE_RULES, parse_quantizer
from tests.quantize.recipes import altgrad_by_hand
from tests.quantize.recipes.formulas import FORMULAS
from tests.quantize.recipes.hard_weights import ordinary
from tests.quantize.recipes.simulate import simulate

every_recipe = pytest.mark.parametrize("name", RECIPES)


def test_every_rule_has_one_function() -> None:
    assert set(RULES) | set(LOOKING_BACK) == set(ScaleRule)
    assert not set(RULES) & set(LOOKING_BACK)


@every_recipe
def test_a_recipe_says_what_it_is_and_is_found_by_its_name(name: str) -> None:
    recipe = RECIPES[name]
    assert recipe.name == name
    assert recipe.summary
    assert recipe.source
    assert parse_quantizer(name.upper()) == recipe.quantizer
    cast = parse_quantizer(f"{name}@bf16")
    assert str(cast) == f"{name}@bf16"
    assert cast == replace(recipe.quantizer, master_cast=MasterCast.BF16)
    has_edges = recipe.quantizer.granularity.kind in {"block", "group", "flat"}
    assert bool(recipe.edges) is has_edges


@every_recipe
def test_what_is_not_finite_costs_itself_and_nothing_else(name: str) -> None:
    quantizer = RECIPES[name].quantizer
    weights = ordinary(160, 256, seed=5)
    weights[3, 5] = 0.0  # what stands in for a number that is none
    expected = simulate(quantizer, weights)
    if quantizer.rule in {ScaleRule.BITNET, ScaleRule.INT4_BF16}:
        weights[3, 5] = np.nan
        assert simulate(quantizer, weights).ordinals[3, 5] == nan_ordinal(quantizer.fmt)
        return  # a mean and a range of what is left are others
    for value in (np.nan, np.inf, -np.inf):
        weights[3, 5] = value
        found = simulate(quantizer, weights)
        np.testing.assert_array_equal(found.values, expected.values)
        same = np.ones(weights.shape, dtype=bool)
        same[3, 5] = False
        np.testing.assert_array_equal(found.ordinals[same], expected.ordinals[same])
        fmt = quantizer.fmt
        ends = {np.inf: (fmt.code_of_max,), -np.inf: (fmt.lowest_ordinal,)}
        if quantizer.rule is ScaleRule.INT4_CT_ASYM:
            assert found.scales.zeros is not None
            zero = int(found.scales.zeros[3, 0])
            ends = {np.inf: (7 - zero,), -np.inf: (-8 - zero,)}
        wanted = ends.get(value, (nan_ordinal(fmt),))
        assert found.ordinals[3, 5] in wanted


@every_recipe
@pytest.mark.parametrize("fill", [0.0, -0.0, np.nan, np.inf])
def test_scales_are_above_zero_and_zeros_have_the_code_zero(name: str, fill: float) -> None:
    weights = np.full((130, 140), fill, dtype=np.float32)
    found = simulate(RECIPES[name].quantizer, weights)
    assert (found.values > 0).all()
    assert np.isfinite(found.values).all()
    assert not np.isnan(found.multipliers).any()
    if fill == 0:
        assert (found.ordinals == 0).all()


@every_recipe
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (17, 1), (129, 33), (0, 5), (5, 0)])
def test_any_shape_is_quantized(name: str, shape: tuple[int, int]) -> None:
    weights = ordinary(*shape, seed=6) if 0 not in shape else np.zeros(shape, dtype=np.float32)
    assert simulate(RECIPES[name].quantizer, weights).ordinals.shape == shape


@pytest.mark.filterwarnings("ignore:.*encountered:RuntimeWarning")
@every_recipe
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_matrix_with_short_blocks_is_its_formula_too(name: str, dtype: str) -> None:
    weights = ordinary(150, 235, seed=7)
    weights = torch.from_numpy(weights).to(getattr(torch, dtype)).float().numpy()
    ordinals, scales = FORMULAS[name](weights, dtype)
    found = simulate(RECIPES[name].quantizer, weights, dtype=getattr(torch, dtype))
    np.testing.assert_array_equal(found.ordinals, ordinals)
    np.testing.assert_array_equal(found.values.reshape(-1), np.asarray(scales).reshape(-1))


def test_matrices_of_a_stack_have_their_own_scale_over_all_in_nvfp4() -> None:
    stack = ordinary(64, 96, seed=8)
    stack[32:] *= np.float32(7)
    for name in ("nvfp4-torchao", "nvfp4-modelopt", "nvfp4-ct", "nvfp4-te"):
        quantizer = RECIPES[name].quantizer
        together = simulate(quantizer, stack, num_matrices=2)
        apart = [simulate(quantizer, half) for half in (stack[:32], stack[32:])]
        np.testing.assert_array_equal(
            together.ordinals, np.concatenate([a.ordinals for a in apart])
        )
        np.testing.assert_array_equal(together.values, np.concatenate([a.values for a in apart]))


def test_blocks_of_nf4_run_over_the_ends_of_rows() -> None:
    weights = ordinary(6, 100, seed=9)
    found = simulate(RECIPES["nf4"].quantizer, weights)
    expected = [np.abs(part).max() for part in np.split(weights.reshape(-1), range(64, 600, 64))]
    np.testing.assert_array_equal(found.values.reshape(-1), expected)


def test_delayed_scaling_uses_the_amax_of_the_checkpoint_before() -> None:
    quantizer = RECIPES["te-delayed"].quantizer
    run = [ordinary(4, 8, seed=1) * np.float32(f) for f in (1, 2, 0, 3, 5)]
    scales, found = None, []
    for weights in run:
        scales = simulate(quantizer, weights, earlier=scales).scales
        assert scales.multipliers is not None
        found.append(float(scales.multipliers))
    amaxes = [np.abs(weights).max() for weights in run]
    with np.errstate(divide="ignore"):
        factors = [np.float32(448) / amax for amax in amaxes]
    # The first has its own; after the one of zeros nothing is known and the scale stays.
    assert found == [factors[0], factors[0], factors[1], factors[1], factors[3]]


def test_delayed_scaling_reaches_the_flips() -> None:
    run = [torch.from_numpy(ordinary(16, 32, seed=1) * np.float32(f)) for f in (1, 1.3, 1.3)]
    meter = FlipMeter(RECIPES["te-delayed"].quantizer, (16, 32))
    meter.start(run[0])
    counts = [meter.advance(*pair) for pair in pairwise(run)]
    assert [count.num_scales_changed for count in counts] == [0, 1]
    assert counts[0].num_saturated is not None
    assert counts[0].num_saturated > 0  # larger than the amax that its scale is made of
    assert counts[1].num_saturated == 0
    assert counts[1].num_flipped == 0
    assert counts[1].num_recoded > 0


@pytest.mark.parametrize("name", ["int4-ct-asym", "int4-bf16", "nf4", "mxfp4-modelopt", "altgrad"])
def test_flips_of_a_recipe_are_those_of_its_codes(name: str) -> None:
    quantizer = RECIPES[name].quantizer
    run = [ordinary(24, 256, seed=11)]
    run += [run[0] + ordinary(24, 256, seed=12) * np.float32(0.2)]
    view = view_for(quantizer, num_matrices=1, rows=24, cols=256)
    tensors = [torch.from_numpy(weights) for weights in run]
    scales = fit_scales(tensors[0].reshape(view.shape), quantizer, view)
    whole = slice(0, view.shape[0]), slice(0, view.shape[1])
    shared = [
        scales.encode(
            scales.scale_down(one.reshape(view.shape), *whole),
            quantizer.fmt,
            whole,
            ties=quantizer.ties,
        )
        for one in tensors
    ]
    own = [simulate(quantizer, weights).ordinals for weights in run]
    meter = FlipMeter(quantizer, (24, 256))
    meter.start(tensors[0])
    counts = meter.advance(tensors[0], tensors[1])
    assert counts.num_flipped == int((shared[0] != shared[1]).sum())
    assert counts.num_recoded == int((own[0] != own[1]).sum())
    assert counts.num_flipped > 0


def test_a_cast_comes_before_the_scale_and_the_code() -> None:
    weights = ordinary(64, 96, seed=13)
    cast = torch.from_numpy(weights).bfloat16().float().numpy()
    quantizer = parse_quantizer("torchao-float8-row")
    found = simulate(replace(quantizer, master_cast=MasterCast.BF16), weights)
    expected = simulate(quantizer, cast, dtype=torch.bfloat16)
    np.testing.assert_array_equal(found.ordinals, expected.ordinals)
    np.testing.assert_array_equal(found.values, expected.values)


def test_the_shares_in_the_caveats_are_those_of_bell_shaped_weights() -> None:
    weights = np.random.default_rng(0).standard_normal((1024, 1024)).astype(np.float32)
    weights *= np.float32(0.02)
    exact, cast = (
        simulate(parse_quantizer(f"e4m3:channel{end}"), weights).ordinals for end in ("", "@bf16")
    )
    assert 0.019 < np.mean(exact != cast) < 0.034
    multiplied = simulate(parse_quantizer("e4m3:channel:te"), weights).ordinals
    assert np.mean(exact != multiplied) < 4e-6
    stored = torch.from_numpy(weights).bfloat16().float().numpy()
    for element, share in (("e4m3", 0.062), ("e2m1", 0.012)):
        quantizer = parse_quantizer(f"{element}:group=32:mx-floor")
        ends = [
            simulate(replace(quantizer, ties=ties), stored).ordinals
            for ties in (Ties.ZERO, Ties.AWAY)
        ]
        assert np.mean(ends[0] != ends[1]) == pytest.approx(share, rel=0.03)


def test_powers_of_two_are_exact_and_logarithms_round_as_float32_does() -> None:
    exponents = torch.arange(-149, 128, dtype=torch.int32)
    exact = torch.ldexp(torch.ones(277, dtype=torch.float64), exponents)
    assert torch.equal(power_of_two(exponents).double(), exact)
    bits = (torch.arange(1, 255, dtype=torch.int32) << 23)[:, None]
    near = (bits + torch.arange(-40, 41, dtype=torch.int32)).reshape(-1).view(torch.float32)
    near = near[torch.isfinite(near) & (near > 0)]
    assert torch.equal(floor_log2(near), torch.log2(near).floor().int())
    assert torch.equal(ceil_log2(near), torch.log2(near).ceil().int())
    assert ceil_log2(torch.tensor([2.0**9 + 2.0**-14])).item() == 9  # the error to be had


def test_rules_of_recipes_go_with_any_float_format() -> None:
    for rule in RECIPE_RULES:
        quantizer = parse_quantizer(f"e3m2:group=16:{rule}")
        assert quantizer.rule is rule
        assert str(quantizer) == f"e3m2:group=16:{rule}"
        assert simulate(quantizer, ordinary(4, 40, seed=1)).ordinals.shape == (4, 40)
    assert not set(RECIPE_RULES) & {"nvfp4-ct", "int4-ct", "bitnet", "nf4"}
    own = parse_quantizer("e2m1:group=32:mx-rceil")
    assert is_same_grid(own, RECIPES["mxfp4-rceil"].quantizer)
    named = [RECIPES[one].quantizer for one in ("mxfp8", "mxfp8-ceil", "mxfp8-microxcaling")]
    assert [len(group) for group in group_same_grids([*named, own])] == [1, 1, 1, 1]


@pytest.mark.parametrize("exponent_bits", range(8))
def test_every_value_and_middle_of_altgrad_is_rounded_as_its_code_does(exponent_bits: int) -> None:
    name = "altgrad" if exponent_bits == 4 else f"altgrad-e{exponent_bits}m{7 - exponent_bits}"
    fmt = RECIPES[name].quantizer.fmt
    values = np.array([fmt.value_of(ordinal) for ordinal in range(fmt.code_of_max + 1)])
    exact = np.concatenate([values, (values[1:] + values[:-1]) / 2, values[-1:] * 1.3])
    points = exact.astype(np.float32)
    points = np.concatenate(
        [points, *(np.nextafter(points, np.float32(side)) for side in (-np.inf, np.inf))]
    )
    points = np.concatenate([points, -points])
    found = encode_ordinals(torch.from_numpy(points), fmt)
    np.testing.assert_array_equal(found, altgrad_by_hand.encode(points, exponent_bits))


def test_altgrad_has_a_grid_and_a_scale_of_its_own() -> None:
    fmt = RECIPES["altgrad"].quantizer.fmt
    assert (fmt.max, fmt.lowest_ordinal, fmt.code_of_max) == (480.0, -127, 127)
    smallest_normal = 2.0**-6
    assert fmt.round(smallest_normal * 0.99) == smallest_normal * 0.875
    assert fmt.round(-smallest_normal * 0.99) == -smallest_normal * 0.875
    assert fmt.round(smallest_normal) == smallest_normal
    weights = np.array([[1.0, -2.0]], dtype=np.float32)
    found = simulate(RECIPES["altgrad"].quantizer, weights)
    assert found.values.item() == np.float32(1.01 * 2 / 480)
    assert not isinstance(fmt, FloatFormat)
    assert RECIPES["altgrad"].is_approximate


def test_microxcaling_rounds_one_number_otherwise_that_is_known() -> None:
    """Half of the smallest value, less one bit: its sum with a half is rounded up to one."""
    just_below = np.nextafter(np.float32(0.25), np.float32(0))
    weights = np.zeros((1, 32), dtype=np.float32)
    weights[0, :2] = 4.0, just_below  # so that the scale is 1
    assert simulate(RECIPES["mxfp4-microxcaling"].quantizer, weights).ordinals[0, 1] == 0
    assert np.floor(just_below * np.float32(2) + np.float32(0.5)) == 1
