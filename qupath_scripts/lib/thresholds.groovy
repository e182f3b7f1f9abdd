/*
 * A threshold is moved: cells come and go among the candidates that an analysis kept, without asking the network again.
 */
package tissuebridge

import groovy.transform.CompileStatic
import io.github.tissuebridge.client.AnalysisResult
import io.github.tissuebridge.client.TissuebridgeException
import java.awt.image.BufferedImage
import qupath.lib.images.ImageData
import qupath.lib.objects.PathObject
import qupath.lib.objects.hierarchy.PathObjectHierarchy
import qupath.lib.projects.ProjectImageEntry

@CompileStatic
class Thresholds {
    /**
     * Makes those candidates cells that reach the thresholds (cell class to threshold; what is not named keeps the model's),
     * by the same rules as an analysis: what a person touched stays.
     */
    static String set(ImageData<BufferedImage> imageData, ProjectImageEntry<BufferedImage> entry, Map<String, Object> options) {
        Closure<?> log = Analysis.logOf(options)
        String model = Analysis.modelOf(options)
        Map<String, Double> thresholds = ((Map<?, ?>) options.getOrDefault("thresholds", [:])).collectEntries { Object name, Object value ->
            [String.valueOf(name), ((Number) value).doubleValue()]
        } as Map<String, Double>
        List<Candidates.Kept> all = Candidates.keptOf(imageData, entry)
        List<Candidates.Kept> chosen = all.findAll { Candidates.Kept kept -> kept.isOf(model) }
        if (chosen.isEmpty())
            throw new TissuebridgeException("UsageError", "Nothing is kept of an analysis of this image" + (all.isEmpty() ? "" :
                " with the model '${model}', but with ${all.collect { Candidates.Kept kept -> kept.title }.unique().join(', ')}".toString()) + ". Run analyse first.", null)
        Set<String> known = chosen.collectMany { Candidates.Kept kept -> kept.result.cellClasses() } as Set<String>
        for (String name : thresholds.keySet())
            if (!known.contains(name))
                throw new TissuebridgeException("UsageError", "'${name}' is no cell class here; there is ${known.join(', ')}.".toString(), null)
        double um = imageData.getServer().getPixelCalibration().getAveragedPixelSizeMicrons()
        List<String> told = []
        for (Candidates.Kept kept : chosen) told.add(one(imageData.getHierarchy(), kept, thresholds, um))
        Care.record(imageData, "setThresholds", [model: model, thresholds: thresholds] as Map<String, Object>, [])
        String text = told.join("; ")
        log.call(text)
        return text
    }

    private static String one(PathObjectHierarchy hierarchy, Candidates.Kept kept, Map<String, Double> thresholds, double um) {
        AnalysisResult found = kept.result.above(thresholds)
        List<PathObject> cells = Results.objectsOf(found, "analyse", um, kept.plane)
        List<PathObject> before = Analysis.existing(hierarchy, kept.plane).findAll { PathObject obj -> obj.isDetection() }
        Map<String, Object> changes = Results.reconciled(before, cells, "analyse", found.modelTitle(), Analysis.radiusPx(found, um), kept.area)
        Analysis.apply(hierarchy, changes, [])
        Map<String, Double> all = found.thresholds() + thresholds
        return "${found.modelTitle()}: ${found.cellCount()} cells at ${all.subMap(found.cellClasses())}, ${changes.get('told')}".toString()
    }
}
