"""Jets of neural fields by forward Taylor mode."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from torch import Tensor

from sciprob.errors import ShapeError
from sciprob.pde.coordinates import point_jets
from sciprob.pde.jet import Jet


def network_jets(
    network: Callable[[Jet], Jet],
    points: Tensor,
    coordinates: Sequence[str],
    fields: Mapping[str, Iterable[str]],
) -> dict[str, Jet]:
    """The outputs of a network at points, as fields with derivatives.

    One pass carries the value and every derivative through the layers; its cost is about that of
    as many evaluations as there are derivatives (`closure` of those asked for). The result is
    differentiable with respect to the parameters in every mode of autograd and `torch.func`; with
    `functional_call` and `vmap`, parameters may have batch axes. Layers: linear ones, products, sums,
    `cat` of coordinates with constant parameters, and the smooth functions of `jet_functions`. For
    others use `autodiff_jets`.

    Args:
        network: A module or function of points `(*batch, n, d)` with one output per field along the
            last axis.
        points: `(*batch, n, d)`.
        coordinates: Names of the columns of `points`, such as `"xt"`.
        fields: Names of the outputs in order, with the derivatives needed of each; as `PDE.fields`.

    Raises:
        ShapeError: If the outputs are not as many as the fields.
        UnsupportedProblemError: If the network uses a function without a rule.
    """
    derivatives = [name for names in fields.values() for name in names]
    output = network(point_jets(points, coordinates, derivatives))
    if output.shape[-1] != len(fields):
        message = f"a network for the fields {list(fields)} should have {len(fields)} outputs, got {output.shape[-1]}."
        raise ShapeError(message)
    return {name: output[..., i] for i, name in enumerate(fields)}
