/*
 * An image of QuPath through a tissuebridge server: what the scripts `analyse`, `propose` and `set_threshold` do.
 */
package tissuebridge

import groovy.transform.CompileStatic
import io.github.tissuebridge.client.AnalysisRequest
import io.github.tissuebridge.client.AnalysisResult
import io.github.tissuebridge.client.Client
import io.github.tissuebridge.client.Settings
import io.github.tissuebridge.client.TissuebridgeException
import java.awt.image.BufferedImage
import org.locationtech.jts.geom.Geometry
import org.locationtech.jts.io.WKBWriter
import org.slf4j.Logger
import org.slf4j.LoggerFactory
import qupath.lib.images.ImageData
import qupath.lib.objects.PathObject
import qupath.lib.objects.TMACoreObject
import qupath.lib.objects.hierarchy.PathObjectHierarchy
import qupath.lib.projects.ProjectImageEntry
import qupath.lib.regions.ImagePlane
import qupath.lib.roi.GeometryTools

@CompileStatic
class Analysis {
    /** Finds regions and cells; options: model, address, token, channels, proposal (TOML), log (a closure that takes a text). */
    static String analyse(ImageData<BufferedImage> imageData, ProjectImageEntry<BufferedImage> entry, Map<String, Object> options) {
        Closure<?> log = logOf(options)
        Picture picture = new Picture(imageData, entry, options)
        for (String said : Care.warnings(imageData, entry, picture)) log.call(said)
        PathObjectHierarchy hierarchy = imageData.getHierarchy()
        String proposal = (String) options.getOrDefault("proposal", "")
        String method = proposal.isEmpty() ? "analyse" : "propose"
        List<PathObject> selected = selectedAreas(hierarchy, picture)
        Geometry area = areaOf(hierarchy, selected, picture)
        AnalysisResult all = run(picture, area, proposal, options, log)
        for (String warning : all.warnings()) log.call("Warning: " + warning)
        AnalysisResult found = proposal.isEmpty() ? all.above([:]) : all
        List<PathObject> objects = Results.objectsOf(found, method, picture.pixelSizeUm, picture.plane)
        Map<String, Object> changes = Results.reconciled(existing(hierarchy, picture.plane), objects, method, found.modelTitle(),
            radiusPx(found, picture.pixelSizeUm), selected.isEmpty() ? null : area)
        if (entry != null) Care.keep(entry, found.runId())
        apply(hierarchy, changes, selected)
        if (proposal.isEmpty()) Candidates.keep(imageData, entry, all, area, picture.plane)
        Care.record(imageData, "analyse", options, selected)
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
        apply(hierarchy, [gone: gone, added: []] as Map<String, Object>, [])
        String told = "${gone.size()} removed, ${ours.size() - gone.size()} kept".toString()
        log.call(told)
        return told
    }

    static AnalysisResult run(Picture picture, Geometry area, String proposal, Map<String, Object> options, Closure<?> log) {
        AnalysisRequest request = picture.request().model(modelOf(options))
        if (area != null) request.region(new WKBWriter(2).write(area))
        if (proposal.isEmpty()) request.unfiltered()
        else request.proposal(proposal)
        Client client = connected(options)
        Progress progress = new Progress(proposal.isEmpty() ? "analysing" : "proposing", "tiles", log)
        try {
            return client.analyze({ int level, int x, int y, int width, int height -> picture.block(level, x, y, width, height) },
                request, progress)
        } catch (InterruptedException ended) {
            throw new TissuebridgeException("Cancelled", "Stopped: nothing was changed in the image, and the server has stopped.", ended)
        } finally {
            progress.close()
            client.close()
        }
    }

    static Client connected(Map<String, Object> options) {
        String address = (String) options.getOrDefault("address", ""), token = (String) options.getOrDefault("token", "")
        if (address.isEmpty()) {
            address = Settings.address()
            token = Settings.token()
        }
        return address.isEmpty() ? Client.connect() : Client.connect(address, token, null)
    }

    static String modelOf(Map<String, Object> options) {
        String model = (String) options.getOrDefault("model", "")
        return model.isEmpty() ? Settings.model() : model
    }

    /** What takes a text: the script's own, else QuPath's log. */
    static Closure<?> logOf(Map<String, Object> options) {
        Logger logger = LoggerFactory.getLogger("tissuebridge")
        return (Closure<?>) options.getOrDefault("log", { Object text -> logger.info(String.valueOf(text)) })
    }

    // ---- Where ----------------------------------------------------------------------------------------------

    static List<PathObject> existing(PathObjectHierarchy hierarchy, ImagePlane plane) {
        return hierarchy.getAllObjects(false).findAll { PathObject obj ->
            !obj.hasROI() || (obj.getROI().getZ() == plane.getZ() && obj.getROI().getT() == plane.getT())
        } as List<PathObject>
    }

    static List<PathObject> selectedAreas(PathObjectHierarchy hierarchy, Picture picture) {
        return hierarchy.getSelectionModel().getSelectedObjects().findAll { PathObject obj ->
            obj.hasROI() && obj.getROI().isArea() && !obj.isDetection() && picture.has(obj.getROI().getImagePlane())
        } as List<PathObject>
    }

    /** What is to be analysed, in full-resolution px; null for all of it. */
    static Geometry areaOf(PathObjectHierarchy hierarchy, List<PathObject> selected, Picture picture) {
        List<PathObject> areas = new ArrayList<>(selected)
        if (areas.isEmpty()) areas.addAll(drawnAreas(hierarchy).findAll { PathObject obj -> picture.has(obj.getROI().getImagePlane()) })
        if (areas.isEmpty() && hierarchy.getTMAGrid() != null)
            areas.addAll(hierarchy.getTMAGrid().getTMACoreList().findAll { TMACoreObject core -> !core.isMissing() })
        List<Geometry> shapes = areas.collect { PathObject obj -> Objects.shapeOf(obj.getROI()) }
        return shapes.isEmpty() ? null : GeometryTools.ensurePolygonal(GeometryTools.union(shapes))
    }

    /** The `Region*` areas that a person drew. */
    static List<PathObject> drawnAreas(PathObjectHierarchy hierarchy) {
        return hierarchy.getAnnotationObjects().findAll { PathObject obj ->
            String.valueOf(obj.getPathClass()) == "Region*" && obj.getROI().isArea() && Results.runOf(obj) == null
        } as List<PathObject>
    }

    /** The largest distance at which two cells are one. */
    static double radiusPx(AnalysisResult found, double pixelSizeUm) {
        double[] diameters = found.diametersUm()
        return diameters.length == 0 ? 0 : Collections.max(diameters.toList()) / 2 / pixelSizeUm
    }

    // ---- What becomes of the image's objects ----------------------------------------------------------------

    /** Takes and adds objects with one event; each new one lies below the core or area it is in, else below the root. */
    static void apply(PathObjectHierarchy hierarchy, Map<String, Object> changes, List<PathObject> selected) {
        List<PathObject> gone = (List<PathObject>) changes.get("gone"), added = (List<PathObject>) changes.get("added")
        long[] ids = new long[2 * gone.size()], parents = new long[2 * added.size()]
        for (int i = 0; i < gone.size(); i++) put(ids, i, gone.get(i).getID())
        List<PathObject> containers = []
        if (hierarchy.getTMAGrid() != null) containers.addAll(hierarchy.getTMAGrid().getTMACoreList())
        containers.addAll(drawnAreas(hierarchy))
        containers.addAll(selected.findAll { PathObject obj -> Results.runOf(obj) == null && !containers.contains(obj) })
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
}
