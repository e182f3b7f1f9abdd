package io.github.tissuebridge.client;

import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import tissuebridge.rpc.v1.Model;

/**
 * A model of the server.
 *
 * @param name what to ask for
 * @param title what it calls itself; objects that it finds carry this
 * @param pixelSizeUm the pixel size that it looks at
 * @param regionClasses names
 * @param thresholds cell class to threshold, in the model's order
 */
public record ModelInfo(String name, String title, double pixelSizeUm, List<String> regionClasses,
        Map<String, Double> thresholds) {

    static ModelInfo of(Model model) {
        Map<String, Double> thresholds = new LinkedHashMap<>();
        for (int i = 0; i < model.getCellClassesCount(); i++) {
            thresholds.put(model.getCellClasses(i), model.getThresholds(i));
        }
        return new ModelInfo(model.getName(), model.getTitle(), model.getPixelSizeUm(),
                List.copyOf(model.getRegionClassesList()), thresholds);
    }

    @Override
    public String toString() {
        return name + ": " + (regionClasses.isEmpty() ? "no regions" : "regions " + String.join(", ", regionClasses))
                + "; " + (thresholds.isEmpty() ? "no cells" : "cells " + thresholds) + "; " + pixelSizeUm + " um a pixel";
    }
}
