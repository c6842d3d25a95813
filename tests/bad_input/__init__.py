"""What the user may do wrong, as tables; `python -m tests.bad_input` prints what each is told."""
