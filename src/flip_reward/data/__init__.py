"""Rows in, tables out: `readers` opens what a user names, `rows` makes groups of it, `tables` writes rows to a file.

`readers` calls `formats` for files and `hub` for data sets. `files` loses nothing to a full disk or kill -9.
"""
