"""Many images over several processes, or over a Dask cluster: they compute, one process writes.

Comes in from the command line: tasks, one for each image (`ahead`), or several for a huge one, a run of strips each.
A worker applies the network and leaves the journal, or its strips of it, on storage that all reach (`tasks.compute`);
the command then goes through its images as always, waits for each one's journal, finds every strip done, and writes the
results. So there is one writer, nothing large crosses between processes, and an interrupted batch goes on where it
was. `local` starts processes here, `cluster` asks a Dask scheduler.
"""
