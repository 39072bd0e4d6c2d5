"""The prompts that a policy is trained on: rows of three columns (`rows`), and those of WildChat (`wildchat`)."""
