/*
 * What the scripts call, and what a workflow step calls again.
 */
package tissuebridge

import groovy.transform.CompileStatic
import io.github.tissuebridge.client.Client
import io.github.tissuebridge.client.ModelInfo
import io.github.tissuebridge.client.Settings
import java.awt.image.BufferedImage
import qupath.lib.images.ImageData
import qupath.lib.objects.PathObject
import qupath.lib.objects.hierarchy.PathObjectHierarchy
import qupath.lib.projects.Project
import qupath.lib.projects.ProjectImageEntry

@CompileStatic
class Tissuebridge {
    /** See Analysis.analyse. */
    static String analyse(ImageData<BufferedImage> imageData, ProjectImageEntry<BufferedImage> entry, Map<String, Object> options) {
        return Analysis.analyse(imageData, entry, options)
    }

    /** See Thresholds.set. */
    static String setThresholds(ImageData<BufferedImage> imageData, ProjectImageEntry<BufferedImage> entry, Map<String, Object> options) {
        return Thresholds.set(imageData, entry, options)
    }

    /** See Analysis.remove. */
    static String remove(PathObjectHierarchy hierarchy, String run, Closure<?> log) { return Analysis.remove(hierarchy, run, log) }

    /** See Training.train. */
    static Object train(ImageData<BufferedImage> imageData, Project<BufferedImage> project, Map<String, Object> options) {
        return Training.train(imageData, project, options)
    }

    /** See Training.export. */
    static String exportTrainingSet(ImageData<BufferedImage> imageData, Project<BufferedImage> project, Map<String, Object> options) {
        return Training.export(imageData, project, options)
    }

    /** See Spatial.measure. */
    static String measure(ImageData<BufferedImage> imageData, ProjectImageEntry<BufferedImage> entry, Map<String, Object> options) {
        return Spatial.measure(imageData, entry, options)
    }

    /** See Review.decide. */
    static String decide(PathObjectHierarchy hierarchy, Map<String, String> accept, Collection<String> reject, String reviewer) {
        return Review.decide(hierarchy, accept, reject, reviewer)
    }

    /** See Review.next. */
    static PathObject next(PathObjectHierarchy hierarchy, boolean backwards) { return Review.next(hierarchy, backwards) }

    /** Which server answers, of which version, and what its models find, a line each. */
    static List<String> described(Map<String, Object> options) {
        Client client = Analysis.connected(options)
        try {
            List<String> lines = ["server ${client.address()}, client ${Client.VERSION}".toString()]
            for (ModelInfo model : client.described()) lines.add((model.name() == Settings.model() ? "* " : "  ") + model)
            if (Settings.model().isEmpty()) lines.add("no model is kept; where a server has several, scripts must name one")
            return lines
        } finally {
            client.close()
        }
    }
}
