"""One file per trainer: the reward in the form that each of them calls. No trainer is imported from here."""
