"""The prompts that a policy is trained on."""
