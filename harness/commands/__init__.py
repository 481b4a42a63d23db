"""The commands, one file each: arguments, wiring, exit codes. No logic."""
