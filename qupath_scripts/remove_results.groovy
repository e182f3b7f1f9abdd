/*
 * tissuebridge: removes what runs wrote to this image. What you edited, named, re-classed, locked, accepted or rejected stays,
 * and everything that is yours.
 */
def RUN = ''            // only of this run (its id, or the beginning of it); '' for all

// ---------------------------------------------------------------------------------------------------------------------
io.github.tissuebridge.client.Scripts.load(this.class.classLoader).remove(getCurrentHierarchy(), RUN, { println it })
