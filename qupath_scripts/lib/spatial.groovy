/*
 * How the cells of an image lie to its tissue: what the script `spatial` does.
 */
package tissuebridge

import groovy.transform.CompileStatic
import io.github.tissuebridge.client.Client
import io.github.tissuebridge.client.SpatialResult
import io.github.tissuebridge.client.TissuebridgeException
import java.awt.image.BufferedImage
import java.nio.file.Files
import java.nio.file.Path
import qupath.lib.gui.QuPathGUI
import qupath.lib.gui.tools.GuiTools
import qupath.lib.images.ImageData
import qupath.lib.objects.PathObject
import qupath.lib.projects.ProjectImageEntry

@CompileStatic
class Spatial {
    /** Measures, and puts the numbers on the objects; options: cells, regions, simulations, seed, address, token, log. */
    static String measure(ImageData<BufferedImage> imageData, ProjectImageEntry<BufferedImage> entry, Map<String, Object> options) {
        Closure<?> log = Analysis.logOf(options)
        // Pixels are not looked at: fluorescence needs no channels here.
        Picture picture = new Picture(imageData, entry, options, false)
        for (String said : Care.warnings(imageData, entry, picture)) log.call(said)
        SpatialResult found = run(picture, Analysis.existing(imageData.getHierarchy(), picture.plane), options, log)
        if (entry != null) Care.keep(entry, "spatial-" + UUID.randomUUID().toString().substring(0, 8))
        int measured = Objects.measure(imageData.getHierarchy(), found.ids(), found.names() as String[], found.values())
        Care.record(imageData, "measure", options, [])
        for (String line : found.told()) log.call(line)
        Path page = written(found, entry, picture)
        String told = "${measured} objects measured; the page: ${page}".toString()
        log.call(told)
        if (QuPathGUI.getInstance() != null) GuiTools.browseURI(page.toUri())
        return told
    }

    private static SpatialResult run(Picture picture, List<PathObject> objects, Map<String, Object> options, Closure<?> log) {
        Client client = Analysis.connected(options)
        Progress progress = new Progress("measuring", "steps", log)
        try {
            return client.measure(picture.request(), Features.of(objects), (String) options.getOrDefault("cells", "latest"),
                (String) options.getOrDefault("regions", "latest"), ((Number) options.getOrDefault("simulations", 0)).intValue(),
                ((Number) options.getOrDefault("seed", 0)).longValue(), progress)
        } catch (InterruptedException ended) {
            throw new TissuebridgeException("Cancelled", "Stopped: nothing was changed in the image.", ended)
        } finally {
            progress.close()
            client.close()
        }
    }

    /** Page and tables: in the project, else in a folder of their own. */
    private static Path written(SpatialResult found, ProjectImageEntry<BufferedImage> entry, Picture picture) {
        Path folder = entry == null ? Files.createTempDirectory("tissuebridge-spatial") :
            Care.ours(entry).resolve("spatial").resolve(entry.getID() + " " + picture.name.replaceAll(/[^\w .-]/, "_"))
        Files.createDirectories(folder)
        for (Map.Entry<String, String> table : found.tables().entrySet()) Files.writeString(folder.resolve(table.getKey() + ".csv"), table.getValue())
        return Files.writeString(folder.resolve("spatial.html"), found.page())
    }
}
