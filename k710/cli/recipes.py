"""`k710 recipes`: the recipes that come with k710."""

from __future__ import annotations

import click


@click.command("recipes")
@click.argument("name", required=False)
def command(name: str | None) -> None:
    """List the recipes, or print one.

    A recipe names every choice of a build, each with its source; copy it and edit it.

    \b
    Examples:
      k710 recipes
      k710 recipes k710-strict > my-recipe.yaml
    """
    from k710.recipes import recipe_files, recipe_path

    if name:
        click.echo(recipe_path("curation", name).read_text(encoding="utf-8"), nl=False)
        return
    click.echo("curation (k710 build --recipe NAME):")
    for recipe, path in recipe_files("curation").items():
        first_line = path.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ")
        click.echo(f"  {recipe:<16}{first_line}")
