"""The documentation: pages of Markdown, and `docs.tools`, which makes parts of them."""
