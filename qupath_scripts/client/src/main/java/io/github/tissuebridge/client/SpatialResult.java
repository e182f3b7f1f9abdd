package io.github.tissuebridge.client;

import java.util.List;
import java.util.Map;

/**
 * How the cells of an image lie to its tissue.
 *
 * @param names of the measurements
 * @param ids UUIDs of the measured objects as pairs of longs, the more significant half first
 * @param values a row of numbers for each object, in the order of the names; NaN where it has none
 * @param page HTML that shows it all
 * @param tables name to CSV
 * @param told in words, a line each
 */
public record SpatialResult(List<String> names, long[] ids, double[] values, String page, Map<String, String> tables,
        List<String> told) { }
