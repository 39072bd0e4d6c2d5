"""What a person looks at: a run, an evaluation, an audit or a training as one HTML file that needs nothing else.

Each has a room with its `page` and the `payload` that the page shows. document.py makes a page of a template, scripts
and data; page/ draws it in the browser. What they share: scores and texts as in texts.py, with the tokens that
highlight.py finds, facts.py about how it was made, meanings.py of words, survey.py to count and choose rows.
"""

REPORT = "report.html"
