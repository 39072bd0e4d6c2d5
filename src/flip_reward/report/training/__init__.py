"""The page of trainings, and of other trainers' rollouts.

`page` writes it from what `payload` makes of them: samples, alarms, and the curves that `figures` chooses. `folder`
reads what `flip-reward train` writes; `rollouts` brings the logs of other trainers as a `WatchedTraining`, too.
"""
