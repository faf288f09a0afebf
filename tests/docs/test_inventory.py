"""Every public name has an entry in the built documentation."""

import types

import pytest
from sphinx.util.inventory import InventoryFile

import keras_distill

MODULES = [
    keras_distill,
    *(
        value
        for value in map(keras_distill.__dict__.get, keras_distill.__all__)
        if isinstance(value, types.ModuleType)
    ),
]


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_every_public_name_is_documented(site, module):
    inventory = InventoryFile.loads(
        (site / "objects.inv").read_bytes(), uri=""
    ).data
    documented = {
        name
        for kind, entries in inventory.items()
        if kind.startswith("py:")
        for name in entries
    }
    public = {
        f"{module.__name__}.{name}"
        for name in module.__all__
        if not name.startswith("_")
        and not isinstance(getattr(module, name), types.ModuleType)
    }
    assert public
    assert not public - documented
