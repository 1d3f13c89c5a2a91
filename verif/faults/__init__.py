"""The whole core and what goes wrong around it: bus errors, bad programs, silence.

`tests` has the tests, `victim` the program that suffers.
"""
