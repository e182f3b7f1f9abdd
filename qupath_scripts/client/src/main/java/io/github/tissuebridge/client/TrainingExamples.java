package io.github.tissuebridge.client;

/**
 * What came of an image that was sent to learn from.
 *
 * @param objects objects that a person drew, accepted or edited
 * @param parts parts of the image that hold them
 * @param pixels of all parts
 */
public record TrainingExamples(long objects, int parts, long pixels) { }
