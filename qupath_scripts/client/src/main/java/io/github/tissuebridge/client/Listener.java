package io.github.tissuebridge.client;

/** Hears how far an analysis is. */
@FunctionalInterface
public interface Listener {

    /**
     * @param done tiles done
     * @param total tiles in all
     */
    void progress(int done, int total);
}
