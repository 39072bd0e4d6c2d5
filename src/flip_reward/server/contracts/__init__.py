"""What each kind of client sends and expects; `exchange` in the room above calls one for each request."""
