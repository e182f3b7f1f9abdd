package io.github.tissuebridge.client;

import java.util.Map;

/** Hears how a training goes, in the thread that watches it; an InterruptedException stops the training. */
public interface TrainingListener {

    /** What was found to learn from, and what is done besides. */
    void told(String text) throws InterruptedException;

    /**
     * @param done steps done
     * @param total steps in all, as far as can be told
     * @param numbers name to value: loss, regression, segmentation, sigma_regression, ...
     */
    void step(int done, int total, Map<String, Double> numbers) throws InterruptedException;

    /** Nothing new for half a second. */
    default void waiting() throws InterruptedException { }
}
