"""What each kind of client sends and expects: one question class per body, which makes rows and the answer."""
