/*
 * What is done round every change of an image: warnings before, a second name for the saved file, a step in its history.
 */
package tissuebridge

import groovy.transform.CompileStatic
import java.awt.image.BufferedImage
import java.lang.management.ManagementFactory
import java.nio.file.Files
import java.nio.file.Path
import qupath.lib.gui.QuPathGUI
import qupath.lib.gui.viewer.QuPathViewer
import qupath.lib.images.ImageData
import qupath.lib.objects.PathObject
import qupath.lib.plugins.workflow.DefaultScriptableWorkflowStep
import qupath.lib.projects.ProjectImageEntry

@CompileStatic
class Care {
    static final String CALL = "io.github.tissuebridge.client.Scripts.load(this.class.classLoader)."

    /** What a person should know before anything is changed. */
    static List<String> warnings(ImageData<BufferedImage> imageData, ProjectImageEntry<BufferedImage> entry, Picture picture) {
        List<String> said = []
        if (!picture.told().isEmpty()) said.add("tissuebridge: " + picture.told())
        if (entry == null) {
            said.add("This image is in no project: what a run changes can be removed (remove_results), but nothing keeps what was before.")
            return said
        }
        if (imageData.isChanged() && Files.exists(dataOf(entry)))
            said.add("This image has unsaved changes. What is kept of before this run is the last saved state: save first (Ctrl+S) "
                + "to be able to come back to this one.")
        if (isOpenElsewhere(imageData, entry))
            said.add("This image is also open in a viewer of QuPath. When the script has ended, reload it there (File > Reload data), "
                + "and do not save it there before: that would write over these results.")
        if (Files.exists(ours(entry).resolve(".tissuebridge.lock")))
            said.add("A tissuebridge run over this project is under way, or was killed. If it works on this image, whoever saves last wins: "
                + "wait for its end, then reload (File > Reload data).")
        if (!imageData.isChanged() && isSavedByOthers(imageData, entry))
            said.add("The saved file of this image has other objects than are shown here: a batch or another QuPath has saved it since. "
                + "Reload (File > Reload data) to see them; saving here writes over them.")
        return said
    }

    static boolean isOpenElsewhere(ImageData<BufferedImage> imageData, ProjectImageEntry<BufferedImage> entry) {
        List<QuPathViewer> viewers = QuPathGUI.getInstance()?.getAllViewers() as List<QuPathViewer>
        return viewers != null && viewers.any { QuPathViewer viewer ->
            ImageData<BufferedImage> other = viewer.getImageData()
            other != null && !other.is(imageData) && QuPathGUI.getInstance().getProject()?.getEntry(other)?.getID() == entry.getID()
        }
    }

    /** Whether the file has other objects; only a file that was written since QuPath started is read for that. */
    static boolean isSavedByOthers(ImageData<BufferedImage> imageData, ProjectImageEntry<BufferedImage> entry) {
        Path data = dataOf(entry)
        if (!Files.exists(data) || Files.getLastModifiedTime(data).toMillis() < ManagementFactory.getRuntimeMXBean().getStartTime()) return false
        Set<UUID> saved = entry.readHierarchy().getAllObjects(false)*.getID() as Set<UUID>
        return saved != (imageData.getHierarchy().getAllObjects(false)*.getID() as Set<UUID>)
    }

    /** Keeps what is saved now under another name, as the batch does, before anybody saves over it. */
    static void keep(ProjectImageEntry<BufferedImage> entry, String run) {
        Path data = dataOf(entry)
        if (!Files.exists(data)) return
        Path place = ours(entry).resolve("backup").resolve(run).resolve(entry.getID())
        Files.createDirectories(place)
        Path copy = place.resolve("data.qpdata")
        try {
            Files.createLink(copy, data)
        } catch (UnsupportedOperationException | IOException ignored) {
            if (!Files.exists(copy)) Files.copy(data, copy)
        }
    }

    static Path dataOf(ProjectImageEntry<?> entry) { return entry.getEntryPath().resolve("data.qpdata") }

    /** The folder of ours in the project's. */
    static Path ours(ProjectImageEntry<?> entry) { return entry.getEntryPath().getParent().getParent().resolve("tissuebridge") }

    /** A step in the image's history, of which "Create workflow script" makes what was done; a token is not told. */
    static void record(ImageData<?> imageData, String what, Map<String, ?> options, Collection<PathObject> selected) {
        Map<String, Object> told = new LinkedHashMap<>()
        for (Map.Entry<String, ?> option : options.entrySet()) {
            Object value = option.getValue()
            boolean isSaid = value instanceof Map ? !((Map) value).isEmpty() : value instanceof List ? !((List) value).isEmpty() : value != ""
            if (isSaid && option.getKey() != "log" && option.getKey() != "token") told.put(option.getKey(), value)
        }
        String where = "resetSelection()\n"
        if (!selected.isEmpty()) {
            String ids = selected.collect { PathObject obj -> "'" + obj.getID() + "'" }.join(", ")
            where = "selectObjects(getAllObjects(false).findAll { it.getID().toString() in [" + ids + "] })\n"
        }
        String script = where + CALL + what + "(getCurrentImageData(), getProjectEntry(), " + literal(told) + ")"
        Map<String, String> shown = told.collectEntries { String key, Object value -> [key, String.valueOf(value)] } as Map<String, String>
        imageData.getHistoryWorkflow().addStep(new DefaultScriptableWorkflowStep("tissuebridge: " + what.replace("_", " "), shown, script))
    }

    /** A map of texts, numbers, lists and maps as Groovy source. */
    static String literal(Object value) {
        if (value instanceof Map) {
            Map<?, ?> map = (Map<?, ?>) value
            return map.isEmpty() ? "[:]" : "[" + map.collect { Object key, Object inner -> literal(key) + ": " + literal(inner) }.join(", ") + "]"
        }
        if (value instanceof List) return "[" + ((List<?>) value).collect { Object inner -> literal(inner) }.join(", ") + "]"
        if (value instanceof Number || value instanceof Boolean) return String.valueOf(value)
        String text = String.valueOf(value)
        return "'" + text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n").replace("\r", "\\r") + "'"
    }
}
