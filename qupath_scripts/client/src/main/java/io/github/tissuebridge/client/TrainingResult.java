package io.github.tissuebridge.client;

import java.util.Map;

/**
 * How a training ended.
 *
 * @param model the model's name: it can be used
 * @param digest of weights and configuration
 * @param isInterrupted stopped before its end; the same order goes on
 * @param thresholds cell class to threshold, as chosen on the validation images
 */
public record TrainingResult(String model, String digest, boolean isInterrupted, Map<String, Double> thresholds) { }
