"""The K×K problems behind the gradient rules, one file a problem."""
