"""`k710 recipes`: the recipes of k710."""

from __future__ import annotations

from pathlib import Path

import click

from k710.cli.common import print_json

# The option that uses the recipes of each kind.
KINDS = {
    "curation": "k710 build --recipe NAME",
    "encode": "k710 fetch --profile NAME",
    "train": "k710 train --recipe NAME",
    "mix": "k710 train --mix FILE, which extends NAME",
    "unions": "k710 build --union NAME",
}


@click.command("recipes")
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def command(name: str | None, as_json: bool) -> None:
    """List the recipes, or print one.

    A recipe names every choice of a build, an encode profile, a training or a union, each with its source. One that is
    printed is whole: what it takes from the recipe that it extends has that one's name in brackets. Copy it and edit
    it.

    \b
    Examples:
      k710 recipes
      k710 recipes k710-strict > my-recipe.yaml
    """
    import yaml

    from k710.errors import RecipeError
    from k710.recipes import read_recipe_text, recipe_files

    if name:
        kinds = {recipe: kind for kind in KINDS for recipe in recipe_files(kind)}
        if name not in kinds:
            raise RecipeError(f"no recipe {name!r}; known: {', '.join(kinds)}")
        found = read_recipe_text(kinds[name], name)
        if as_json:
            print_json({"kind": kinds[name], "name": name, "values": yaml.safe_load(found.whole())})
            return
        extends_none = all(value.file == found.path for value in found.values.values())
        click.echo(found.path.read_text(encoding="utf-8") if extends_none else found.whole(), nl=False)
        return
    if as_json:
        print_json({kind: {recipe: _title(path) for recipe, path in recipe_files(kind).items()} for kind in KINDS})
        return
    for kind, taken_by in KINDS.items():
        click.echo(f"{kind} ({taken_by}):")
        files = recipe_files(kind)
        width = max(16, *(len(recipe) + 2 for recipe in files))
        for recipe, path in files.items():
            click.echo(f"  {recipe:<{width}}{_title(path)}")


def _title(path: Path) -> str:
    """The first line of a recipe: what it is."""
    return path.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ")
