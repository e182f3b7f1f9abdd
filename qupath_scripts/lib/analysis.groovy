/*
 * An image of QuPath through a tissuebridge server: what the scripts `analyse` and `propose` do.
 */
package tissuebridge

import groovy.transform.CompileStatic
import io.github.tissuebridge.client.AnalysisRequest
import io.github.tissuebridge.client.AnalysisResult
import io.github.tissuebridge.client.Client
import io.github.tissuebridge.client.TissuebridgeException
import java.awt.image.BufferedImage
import java.nio.file.Files
import java.nio.file.Path
import java.nio.file.Paths
import org.locationtech.jts.geom.Geometry
import org.locationtech.jts.io.WKBWriter
import qupath.lib.images.ImageData
import qupath.lib.images.servers.ImageServer
import qupath.lib.images.servers.ImageServerMetadata
import qupath.lib.images.servers.PixelCalibration
import qupath.lib.objects.PathObject
import qupath.lib.objects.TMACoreObject
import qupath.lib.objects.hierarchy.PathObjectHierarchy
import qupath.lib.projects.ProjectImageEntry
import qupath.lib.regions.ImagePlane
import qupath.lib.roi.GeometryTools

@CompileStatic
class Analysis {
    /** Finds regions and cells; options: model, address, token, proposal (TOML), log (a closure that takes a text). */
    static String analyse(ImageData<BufferedImage> imageData, ProjectImageEntry<BufferedImage> entry, Map<String, Object> options) {
        Closure<?> log = (Closure<?>) options.get("log")
        ImageServer<BufferedImage> server = imageData.getServer()
        check(server)
        PathObjectHierarchy hierarchy = imageData.getHierarchy()
        String proposal = (String) options.getOrDefault("proposal", "")
        String method = proposal.isEmpty() ? "analyse" : "propose"
        Geometry area = areaOf(hierarchy)
        double um = server.getPixelCalibration().getAveragedPixelSizeMicrons()
        AnalysisResult found = run(server, area, proposal, options, log)
        for (String warning : found.warnings()) log.call("Warning: " + warning)
        ImagePlane plane = ImagePlane.getDefaultPlane()
        List<PathObject> objects = Results.objectsOf(found, method, um, plane)
        double[] diameters = found.diametersUm()
        double radius = diameters.length == 0 ? 0 : Collections.max(diameters.toList()) / 2 / um
        Map<String, Object> changes = Results.reconciled(hierarchy.getAllObjects(false), objects, method, found.modelTitle(), radius)
        if (entry != null) keep(entry, found.runId())
        apply(hierarchy, (List<PathObject>) changes.get("gone"), (List<PathObject>) changes.get("added"))
        String told = "run ${found.runId()}: ${changes.get('told')}".toString()
        log.call(told)
        return told
    }

    /** Takes away what runs wrote and nobody touched: of one run ('' for all), as one event. */
    static String remove(PathObjectHierarchy hierarchy, String run, Closure<?> log) {
        List<PathObject> ours = hierarchy.getAllObjects(false).findAll { PathObject obj ->
            Results.runOf(obj) != null && (run.isEmpty() || Results.runOf(obj).startsWith(run))
        } as List<PathObject>
        List<PathObject> gone = ours.findAll { PathObject obj -> Results.isUntouched(obj) }
        apply(hierarchy, gone, [])
        String told = "${gone.size()} removed, ${ours.size() - gone.size()} kept".toString()
        log.call(told)
        return told
    }

    static AnalysisResult run(ImageServer<BufferedImage> server, Geometry area, String proposal, Map<String, Object> options, Closure<?> log) {
        Client client = connected(options)
        int[] told = [-1] as int[]
        try {
            return client.analyze(
                { int level, int x, int y, int width, int height -> Objects.block(server, level, x, y, width, height) },
                requestFor(server, area, proposal, (String) options.getOrDefault("model", "")),
                { int done, int total ->
                    int tenth = 10 * done / Math.max(total, 1) as int
                    if (tenth > told[0]) { told[0] = tenth; log.call("tissuebridge: ${done} of ${total} tiles".toString()) }
                })
        } finally {
            client.close()
        }
    }

    static Client connected(Map<String, Object> options) {
        String address = (String) options.getOrDefault("address", "")
        return address.isEmpty() ? Client.connect() : Client.connect(address, (String) options.get("token"), null)
    }

    static AnalysisRequest requestFor(ImageServer<BufferedImage> server, Geometry area, String proposal, String model) {
        AnalysisRequest request = new AnalysisRequest(nameOf(server), server.getWidth(), server.getHeight(),
            server.getPixelCalibration().getAveragedPixelSizeMicrons())
        for (ImageServerMetadata.ImageResolutionLevel level : server.getMetadata().getLevels())
            request.level(level.getWidth(), level.getHeight(), level.getDownsample())
        if (area != null) request.region(new WKBWriter(2).write(area))
        if (!proposal.isEmpty()) request.proposal(proposal)
        return request.model(model)
    }

    /** The file's name, as in a folder and by batch: with size and pixel size it makes the image this image. */
    static String nameOf(ImageServer<BufferedImage> server) {
        Collection<URI> uris = server.getURIs()
        if (uris.isEmpty()) return server.getMetadata().getName()
        String path = uris.iterator().next().getPath()
        return java.text.Normalizer.normalize(path.substring(path.lastIndexOf("/") + 1), java.text.Normalizer.Form.NFC)
    }

    static void check(ImageServer<BufferedImage> server) {
        if (!server.isRGB())
            throw new TissuebridgeException("ImageError", "This image is not 8-bit RGB; brightfield RGB is needed.", null)
        PixelCalibration calibration = server.getPixelCalibration()
        if (!calibration.hasPixelSizeMicrons())
            throw new TissuebridgeException("CalibrationError",
                "This image has no pixel size. Set it in the Image tab (click on the pixel width twice).", null)
    }

    /** What is to be analysed, in full-resolution px; null for all of it. */
    static Geometry areaOf(PathObjectHierarchy hierarchy) {
        List<Geometry> areas = []
        for (PathObject obj : hierarchy.getSelectionModel().getSelectedObjects())
            if (obj.hasROI() && obj.getROI().isArea() && !obj.isDetection()) areas.add(Objects.shapeOf(obj.getROI()))
        if (areas.isEmpty())
            for (PathObject obj : hierarchy.getAnnotationObjects())
                if (String.valueOf(obj.getPathClass()) == "Region*" && obj.getROI().isArea() && Results.runOf(obj) == null)
                    areas.add(Objects.shapeOf(obj.getROI()))
        if (areas.isEmpty() && hierarchy.getTMAGrid() != null)
            for (TMACoreObject core : hierarchy.getTMAGrid().getTMACoreList())
                if (!core.isMissing()) areas.add(Objects.shapeOf(core.getROI()))
        return areas.isEmpty() ? null : GeometryTools.ensurePolygonal(GeometryTools.union(areas))
    }

    /** Takes and adds objects with one event; each new one lies below the core or area it is in, else below the root. */
    static void apply(PathObjectHierarchy hierarchy, List<PathObject> gone, List<PathObject> added) {
        long[] ids = new long[2 * gone.size()], parents = new long[2 * added.size()]
        for (int i = 0; i < gone.size(); i++) put(ids, i, gone.get(i).getID())
        List<PathObject> containers = []
        if (hierarchy.getTMAGrid() != null) containers.addAll(hierarchy.getTMAGrid().getTMACoreList())
        for (PathObject obj : hierarchy.getAnnotationObjects())
            if (String.valueOf(obj.getPathClass()) == "Region*" && obj.getROI().isArea() && Results.runOf(obj) == null) containers.add(obj)
        // A polygon's centroid takes a while: not where there is nothing to lie below.
        for (int i = 0; i < added.size() && !containers.isEmpty(); i++) {
            double x = added.get(i).getROI().getCentroidX(), y = added.get(i).getROI().getCentroidY()
            PathObject outer = containers.find { PathObject one -> one.getROI().contains(x, y) }
            if (outer != null) put(parents, i, outer.getID())
        }
        Objects.change(hierarchy, ids, added, parents)
    }

    static void put(long[] halves, int i, UUID id) {
        halves[2 * i] = id.getMostSignificantBits()
        halves[2 * i + 1] = id.getLeastSignificantBits()
    }

    /** Keeps what is saved now under another name, as the batch does, before anybody saves over it. */
    static void keep(ProjectImageEntry<BufferedImage> entry, String run) {
        Path data = entry.getEntryPath().resolve("data.qpdata")
        if (!Files.exists(data)) return
        Path place = entry.getEntryPath().getParent().getParent().resolve("tissuebridge").resolve("backup").resolve(run).resolve(entry.getID())
        Files.createDirectories(place)
        Path copy = place.resolve("data.qpdata")
        try {
            Files.createLink(copy, data)
        } catch (UnsupportedOperationException | IOException ignored) {
            if (!Files.exists(copy)) Files.copy(data, copy)
        }
    }
}
