"""Results into a QuPath project, and out of it again, with nothing of a person's ever lost.

`reconcile` decides what changes, `apply` carries it out on one image, `runs` and `remembered` keep the books, `undo`
takes a run back. Who loads and saves is an `apply.ObjectStore`: QuPath itself (`qupath.store`).
"""
