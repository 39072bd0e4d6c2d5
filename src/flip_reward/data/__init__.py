"""Rows in, tables out: `readers` opens what a user names, `groups` makes groups of it, `tables` writes rows.

`readers` finds files in `storage` and `cloud`, and reads them with `formats`; `hub` has the data sets. `files` loses
nothing to a full disk or kill -9.
"""
