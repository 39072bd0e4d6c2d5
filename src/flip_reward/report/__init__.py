"""What a person looks at: an evaluation or a training as one HTML file that needs nothing else.

evaluation.py fills the page with the data that payload.py makes of an evaluation, with counts from statistics.py and
the shared tokens of instructions from highlight.py; page/ draws them in the browser. training.py writes the page of a
training, which needs no script.
"""

REPORT = "report.html"
"""The report's name in the folder it is about."""
