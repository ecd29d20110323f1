"""The score of a constant predictor, computed by the metric itself."""

from torch import Tensor

from tasks.core.base import Factory, Metric, MetricInputs, as_they_are


def against_constant(
    factory: Factory,
    higher_is_better: bool,
    constant: Tensor,
    target: Tensor,
    metric_inputs: MetricInputs = as_they_are,
) -> Metric:
    """Return a metric whose constant score is that of predicting `constant` for every example of `target` `[N, …]`."""
    accumulator = factory()
    accumulator.update(*metric_inputs(constant.expand(len(target), *constant.shape), target))
    return Metric(factory, higher_is_better, constant_score=float(accumulator.compute()))
