/*
 * Candidates of cells, kept from an analysis, so that a threshold can be moved without asking the network again.
 *
 * In a project they lie below tissuebridge/candidates, one file for each area that was analysed; else as long as the image
 * is open.
 */
package tissuebridge

import groovy.transform.CompileStatic
import io.github.tissuebridge.client.AnalysisResult
import io.github.tissuebridge.client.TissuebridgeException
import java.nio.file.Files
import java.nio.file.Path
import java.util.stream.Stream
import org.locationtech.jts.geom.Geometry
import org.locationtech.jts.io.WKBReader
import org.locationtech.jts.io.WKBWriter
import qupath.lib.images.ImageData
import qupath.lib.projects.ProjectImageEntry
import qupath.lib.regions.ImagePlane

@CompileStatic
class Candidates {
    private static final Map<ImageData<?>, List<Kept>> unsaved = new WeakHashMap<>()

    /** The candidates of one analysis: whose, where, on which plane; a file's are read when they are wanted. */
    @CompileStatic
    static class Kept {
        String title
        Geometry area
        ImagePlane plane
        Path file
        long time
        private AnalysisResult result

        AnalysisResult getResult() {
            try {
                if (result == null) result = AnalysisResult.read(file)
                return result
            } catch (IOException damaged) {
                throw new TissuebridgeException("StorageError", "${file}: damaged. Delete it, and run analyse again.".toString(), damaged)
            }
        }

        boolean isOf(String model) { return model.isEmpty() || title == model }

        boolean isWithin(Kept other) {
            return title == other.title && plane == other.plane
                && (other.area == null || (area != null && other.area.covers(area)))
        }
    }

    static void keep(ImageData<?> imageData, ProjectImageEntry<?> entry, AnalysisResult all, Geometry area, ImagePlane plane) {
        Kept fresh = new Kept(title: all.modelTitle(), area: area, plane: plane)
        for (Kept old : keptOf(imageData, entry)) if (old.isWithin(fresh)) forget(imageData, old)
        if (entry == null) {
            fresh.result = all
            unsaved.computeIfAbsent(imageData) { new ArrayList<Kept>() }.add(fresh)
            return
        }
        Path file = folderOf(entry).resolve(all.runId() + ".candidates")
        Files.createDirectories(file.getParent())
        Properties about = new Properties()
        about.setProperty("title", all.modelTitle())
        about.setProperty("z", String.valueOf(plane.getZ()))
        about.setProperty("t", String.valueOf(plane.getT()))
        if (area != null) about.setProperty("area", WKBWriter.toHex(new WKBWriter(2).write(area)))
        try (Writer out = Files.newBufferedWriter(whereOf(file))) { about.store(out, null) }
        all.save(file)
    }

    static List<Kept> keptOf(ImageData<?> imageData, ProjectImageEntry<?> entry) {
        if (entry == null) return new ArrayList<Kept>(unsaved.getOrDefault(imageData, []))
        Path folder = folderOf(entry)
        if (!Files.isDirectory(folder)) return []
        List<Kept> out = []
        try (Stream<Path> files = Files.list(folder)) {
            for (Path file : files.toList()) if (file.toString().endsWith(".candidates")) out.add(read(file))
        }
        // The newest last: where two were analysed in the same place, that one decides.
        out.sort { Kept one, Kept other -> Long.compare(one.time, other.time) }
        return out
    }

    private static Kept read(Path file) {
        Properties about = new Properties()
        try (Reader from = Files.newBufferedReader(whereOf(file))) { about.load(from) }
        String area = about.getProperty("area")
        ImagePlane plane = ImagePlane.getPlane(about.getProperty("z", "0") as int, about.getProperty("t", "0") as int)
        return new Kept(title: about.getProperty("title"), area: area == null ? null : new WKBReader().read(WKBReader.hexToBytes(area)),
            plane: plane, file: file, time: Files.getLastModifiedTime(file).toMillis())
    }

    /** Beside the candidates: whose, where and on which plane. */
    private static Path whereOf(Path file) {
        return file.resolveSibling(file.getFileName().toString().replace(".candidates", ".where"))
    }

    private static void forget(ImageData<?> imageData, Kept old) {
        if (old.file == null) {
            unsaved.get(imageData)?.remove(old)
            return
        }
        Files.deleteIfExists(old.file)
        Files.deleteIfExists(whereOf(old.file))
    }

    private static Path folderOf(ProjectImageEntry<?> entry) { return Care.ours(entry).resolve("candidates").resolve(entry.getID()) }
}
