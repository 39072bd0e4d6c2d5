"""Language models as judges: each file is one judge, made of a template, a schema and a parser; `base` is shared."""
