"""QuPath itself, in a JVM inside this process: the only package that imports paquo and jpype, and only when asked.

paquo finds QuPath and starts its Java (`java`); projects are opened with paquo (`opened`), objects cross in bulk
(`arrays`, and `objects.groovy` on the other side). paquo's own saving is never used: it saves on leaving a `with`
block, whatever happened, and skips images silently; `OpenEntry` saves once, when told.

A process has one JVM. It cannot be forked after that: start other processes with spawn.
"""
