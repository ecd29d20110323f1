"""Plans: the runs that a request needs and why, the time that they will take, and the code that they depend on."""
