"""What a person looks at: a run, an evaluation or a training as one HTML file that needs nothing else.

document.py makes a page of a template, scripts and data. evaluation.py does so with what payload.py makes of an
evaluation, with counts from statistics.py; run.py with what run_payload.py makes of a run, whose rows survey.py
counts and chooses and run_texts.py reads again. Both have scores and texts as in texts.py, with the shared tokens
that highlight.py finds, and facts.py; page/ draws them in the browser. training.py writes the page of trainings from
what training_payload.py makes of them: samples, alarms, and the curves that training_figures.py chooses. It reads
their folders by training_folder.py; other trainers' logs come as a `WatchedTraining`, too.
"""

REPORT = "report.html"
"""The report's name in the folder it is about."""
