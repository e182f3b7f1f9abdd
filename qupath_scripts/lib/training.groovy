/*
 * A person's annotations from QuPath to a tissuebridge server, and a training there: what `export_training_set` and `train` do.
 */
package tissuebridge

import groovy.transform.CompileStatic
import io.github.tissuebridge.client.Client
import io.github.tissuebridge.client.Settings
import io.github.tissuebridge.client.TissuebridgeException
import io.github.tissuebridge.client.TrainingExamples
import io.github.tissuebridge.client.TrainingListener
import io.github.tissuebridge.client.TrainingRequest
import io.github.tissuebridge.client.TrainingResult
import java.awt.image.BufferedImage
import java.text.Normalizer
import qupath.lib.images.ImageData
import qupath.lib.objects.PathObject
import qupath.lib.projects.Project
import qupath.lib.projects.ProjectImageEntry

@CompileStatic
class Training {
    /** Sends the annotations of this image or of the project; options: set, project, channels, address, token, log. Gives the set's name. */
    static String export(ImageData<BufferedImage> imageData, Project<BufferedImage> project, Map<String, Object> options) {
        Client client = Analysis.connected(options)
        try {
            return send(client, imageData, project, options)
        } finally {
            client.close()
        }
    }

    /** Sends, trains, follows; options also: model, preset, minutes, epochs, settings (TOML), restart. */
    static TrainingResult train(ImageData<BufferedImage> imageData, Project<BufferedImage> project, Map<String, Object> options) {
        Closure<?> log = Analysis.logOf(options)
        Client client = Analysis.connected(options)
        try {
            String set = send(client, imageData, project, options)
            String model = slug((String) (options.get("model") ?: set))
            TrainingRequest request = new TrainingRequest(set, model).preset((String) options.getOrDefault("preset", "compact"))
                .settings((String) options.getOrDefault("settings", "")).restart((boolean) options.getOrDefault("restart", false))
            double minutes = ((Number) options.getOrDefault("minutes", 0)).doubleValue()
            int epochs = ((Number) options.getOrDefault("epochs", 0)).intValue()
            if (epochs > 0) request.epochs(epochs)
            else if (minutes > 0) request.minutes(minutes)
            TrainingResult result = client.watchTraining(client.startTraining(request), new Told(log))
            Settings.keepModel(model)
            log.call("The model '${result.model()}' is ready; thresholds ${result.thresholds()}. The scripts use it from now on.".toString())
            return result
        } catch (InterruptedException ended) {
            throw new TissuebridgeException("Cancelled", "Stopped after its step: the model so far can be used. Run the script again to go on.", ended)
        } finally {
            client.close()
        }
    }

    private static String send(Client client, ImageData<BufferedImage> imageData, Project<BufferedImage> project, Map<String, Object> options) {
        Closure<?> log = Analysis.logOf(options)
        boolean isProject = project != null && (boolean) options.getOrDefault("project", true)
        String given = (String) options.getOrDefault("set", "")
        String set = slug(!given.isEmpty() ? given : isProject ? nameOf(project) : stem(imageData.getServer().getMetadata().getName()))
        ProjectImageEntry<BufferedImage> here = imageData == null ? null : project?.getEntry(imageData)
        int images = 0
        long objects = 0
        for (ProjectImageEntry<BufferedImage> entry : isProject ? project.getImageList() : Collections.singletonList(here)) {
            boolean isOpen = entry == null || entry.getID() == here?.getID()
            // An image without annotations is not even opened.
            if (!isOpen && examplesOf(entry.readHierarchy().getAllObjects(false)).isEmpty()) continue
            ImageData<BufferedImage> data = isOpen ? imageData : entry.readImageData()
            try {
                TrainingExamples sent = one(client, data, entry, set, images == 0, options)
                if (sent == null) continue
                images++
                objects += sent.objects()
                log.call("${data.getServer().getMetadata().getName()}: ${sent.objects()} objects in ${sent.parts()} parts".toString())
            } finally {
                if (!isOpen) data.close()
            }
        }
        if (images == 0)
            throw new TissuebridgeException("AnnotationError", "There is nothing to learn from: draw regions and dot cells, each with a class, "
                + "or accept proposals. What runs wrote counts only once you have accepted it.", null)
        log.call("training set '${set}': ${objects} objects of ${images} images".toString())
        return set
    }

    private static TrainingExamples one(Client client, ImageData<BufferedImage> data, ProjectImageEntry<BufferedImage> entry, String set,
                                        boolean first, Map<String, Object> options) {
        Picture picture = new Picture(data, entry, options)
        List<PathObject> drawn = examplesOf(Analysis.existing(data.getHierarchy(), picture.plane))
        if (drawn.isEmpty()) return null
        Progress progress = new Progress("sending ${picture.name}".toString(), "parts", Analysis.logOf(options))
        try {
            return client.addExamples({ int level, int x, int y, int width, int height -> picture.block(level, x, y, width, height) },
                picture.request(), set, first, Features.of(drawn), progress)
        } finally {
            progress.close()
        }
    }

    /** What counts as a person's: drawn, or written by a run and then accepted, rejected or edited; with a class that is no proposal. */
    static List<PathObject> examplesOf(Collection<PathObject> all) {
        return all.findAll { PathObject obj ->
            obj.hasROI() && obj.getPathClass() != null && !String.valueOf(obj.getPathClass()).startsWith(Review.PROPOSED)
                && (Results.runOf(obj) == null || isReviewed(obj))
        } as List<PathObject>
    }

    /** Locked alone does not mean edited: QuPath locks by itself. */
    private static boolean isReviewed(PathObject obj) {
        Map<String, String> metadata = obj.getMetadata()
        return metadata.get(Results.PREFIX + "accepted") != null || metadata.get(Results.PREFIX + "rejected") != null
            || metadata.get(Results.PREFIX + "digest") != Results.digestOf(obj)
    }

    static String nameOf(Project<?> project) {
        return project.getPath() == null ? project.getName() : project.getPath().getParent().getFileName().toString()
    }

    static String stem(String name) { return name.replaceAll(/\.[A-Za-z]{2,5}$/, "") }

    /** A name that a server takes: small letters, digits, dots and dashes. */
    static String slug(String name) {
        String plain = Normalizer.normalize(name, Normalizer.Form.NFD).replaceAll(/\p{M}/, "").toLowerCase(Locale.ROOT)
        String slug = plain.replaceAll(/[^a-z0-9._-]+/, "-").replaceAll(/^[^a-z0-9]+/, "").replaceAll(/-+$/, "")
        return slug.isEmpty() ? "model" : slug.take(64)
    }

    /** A training in QuPath's log: every ten seconds a line with its losses. */
    @CompileStatic
    private static class Told implements TrainingListener {
        private final Closure<?> log
        private long last = 0

        Told(Closure<?> log) { this.log = log }

        void told(String text) { log.call(text) }

        void step(int done, int total, Map<String, Double> numbers) {
            long now = System.currentTimeMillis()
            if (now - last < 10_000 && done < total) return
            last = now
            List<String> losses = ["loss", "regression", "segmentation"].findAll { numbers.containsKey(it) }
                .collect { String name -> String.format(Locale.ROOT, "%s %.4f", name, numbers.get(name)) }
            log.call("step ${done} of about ${total}: ${losses.join(', ')}".toString())
        }
    }
}
