"""Rows in, tables out: `readers` opens what a user names, `rows` makes groups, `tables` writes."""
