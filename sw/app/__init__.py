"""The command line and what only it needs: runs, reports, timelines, demonstration, data sheets.

The one place that knows all others. Begin with `cli`.
"""
