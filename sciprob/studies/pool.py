"""The same function on many items, here or on workers of a Dask cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sciprob.errors import ConfigError, MissingExtraError
from sciprob.solvers.progress import Progress


def run_all(
    function: Callable[[Any], Any],
    items: Sequence[Any],
    *,
    workers: int = 1,
    cluster: str | None = None,
    label: str = "runs",
    show: bool = True,
) -> Iterator[tuple[int, Any]]:
    """Results as they come, `(index of the item, function(item))`.

    Args:
        function: A function of a module; workers import it.
        items: Plain tables of settings.
        workers: Processes on this machine, one thread each; 1 runs everything here, in order.
        cluster: Address of a Dask scheduler to use instead, `tcp://host:8786`.
        label: Words for the progress bar.
        show: Whether progress is shown.

    Raises:
        MissingExtraError: If workers are asked for and Dask is not installed.
        ConfigError: If no scheduler answers at the address, or there is not one worker.
    """
    if workers < 1:
        message = f"`workers` should be at least 1, got {workers}."
        raise ConfigError(message)
    progress = Progress(label, len(items), 0, show=show)
    done = 0
    try:
        for index, result in _results(function, items, workers, cluster):
            done += 1
            progress.update(done, {})
            yield index, result
    finally:
        progress.close()


def _results(
    function: Callable[[Any], Any], items: Sequence[Any], workers: int, cluster: str | None
) -> Iterator[tuple[int, Any]]:
    if cluster is None and (workers == 1 or len(items) < 2):
        for index, item in enumerate(items):
            yield index, function(item)
        return
    with _client(min(workers, len(items)), cluster) as (client, as_completed):
        futures = client.map(function, items, pure=False)
        numbers = {future.key: index for index, future in enumerate(futures)}
        for future in as_completed(futures):
            yield numbers[future.key], future.result()
            future.release()  # results of thousands of runs need not stay on the cluster


@contextmanager
def _client(workers: int, cluster: str | None) -> Iterator[tuple[Any, Any]]:
    try:
        import dask
        from distributed import Client, LocalCluster, as_completed
    except ImportError as error:
        message = "several workers need Dask; install it with `pip install 'sciprob[studies]'`, or use one worker."
        raise MissingExtraError(message) from error
    if cluster is not None:
        try:
            client = Client(cluster, timeout="10s")
        except (OSError, ValueError, TimeoutError) as error:
            message = f"no Dask scheduler answers at {cluster}; start one with `dask scheduler`, or leave it out."
            raise ConfigError(message) from error
        with client:
            yield client, as_completed
        return
    # a worker that loads torch and a mesh is slow to answer for seconds, which is no reason to complain
    with (
        dask.config.set({"distributed.admin.tick.limit": "1h", "distributed.worker.daemon": True}),
        LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None, silence_logs=40) as local,
        Client(local) as client,
    ):
        yield client, as_completed
