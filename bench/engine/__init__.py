"""Where runs execute: engines, the schedule that gives them runs, and one run in a process of its own."""
