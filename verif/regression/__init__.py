"""The regression: which benches on which configurations, run side by side: ``lutcore verify``.

`benches` lists the benches, `plan` the jobs of the full regression, `verify` runs what was asked
for.
"""
