"""What breaks in labs, done to the virtual lab from outside its drivers. `python -m tests.faults` makes the table."""
