"""Code that the reproductions share.

command_line  the arguments that all of them have
results       measures experiments, and writes tables and `results.json`
tasks         tasks whose results are kept and not computed twice
training      trainings that resume after their last whole epoch
workers       runs many tasks, several at a time
"""
