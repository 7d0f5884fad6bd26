"""The documentation site: `make site` builds it with MkDocs, from mkdocs.yml and docs/."""
