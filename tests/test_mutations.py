"""The mutations that were chosen by hand fit the source as it is."""

import pytest
from mutate import MUTATIONS, ROOT


@pytest.mark.parametrize("name", MUTATIONS)
def test_the_text_of_every_mutation_stands_once_in_its_file_and_changes(name):
    file, old, new = MUTATIONS[name]
    source = (ROOT / "src" / "stochloc" / file).read_text(encoding="utf-8")
    assert source.count(old) == 1
    assert new != old
