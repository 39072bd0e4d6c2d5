"""The plugin file for ms-swift, in a folder of its own.

ms-swift puts the folder of a plugin file at the front of Python's path. Beside the other trainers' files, the plugin
would make `import trl` find ours.
"""
