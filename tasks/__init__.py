"""Task sets: tasks learnt together, with their data and network. The sets are this folder's files."""
