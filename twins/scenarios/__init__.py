"""Years of use: scenario files, the days that they describe, lives of a pack, who wore it, and its second life.

`model` is the file, `habits` and `climate` make its days, `life` drives the pack twin through them, `study` compares
lives and draws the conclusions with `attribution`, `money`, `outlook` and `second_life`.
"""
