"""What a job is and what may become of it: pure values and functions, no I/O, no clock, no log."""
