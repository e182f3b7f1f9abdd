package io.github.tissuebridge.client;

/** Hears how far an analysis is, in the thread that runs it. */
@FunctionalInterface
public interface Listener {

    /**
     * Also called again with the same numbers when nothing was heard for half a second.
     *
     * @param done tiles done
     * @param total tiles in all; 0 before anything is known
     * @throws InterruptedException whoever looks on wants an end: the server stops
     */
    void progress(int done, int total) throws InterruptedException;
}
