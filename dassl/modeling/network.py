"""The registry of whole networks; trainer files bring their own."""

from ..utils import Registry

NETWORK_REGISTRY = Registry("NETWORK")


def build_network(name, verbose=True, **kwargs):
    """Return the network registered as ``name``, built with ``kwargs``."""
    if verbose:
        print(f"Network: {name}")
    return NETWORK_REGISTRY.get(name)(**kwargs)
