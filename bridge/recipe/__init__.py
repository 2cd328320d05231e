"""Recipes: the whole journey in one TOML file, of which only what has changed is done again."""
