"""Which runs a request needs and why, what they will take, and which code their numbers depend on."""
