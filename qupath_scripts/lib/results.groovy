/*
 * What a tissuebridge server found, as QuPath objects; and which of the image's objects it may replace.
 *
 * Packed into the client's jar and compiled by QuPath's own Groovy, as objects.groovy is, which it builds upon. The rules
 * are those of tissuebridge.writeback.reconcile: a person's work always stays.
 */
package tissuebridge

import groovy.transform.CompileStatic
import io.github.tissuebridge.client.AnalysisResult
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.nio.charset.StandardCharsets
import java.security.MessageDigest
import org.locationtech.jts.geom.Coordinate
import org.locationtech.jts.geom.CoordinateSequence
import org.locationtech.jts.geom.CoordinateSequenceFilter
import org.locationtech.jts.geom.Geometry
import org.locationtech.jts.geom.GeometryFactory
import org.locationtech.jts.geom.LinearRing
import org.locationtech.jts.geom.MultiPoint
import org.locationtech.jts.geom.MultiPolygon
import org.locationtech.jts.geom.Point
import org.locationtech.jts.geom.Polygon
import org.locationtech.jts.geom.prep.PreparedGeometry
import org.locationtech.jts.geom.prep.PreparedGeometryFactory
import org.locationtech.jts.index.strtree.STRtree
import org.locationtech.jts.io.ByteOrderValues
import org.locationtech.jts.io.WKBReader
import org.locationtech.jts.io.WKBWriter
import org.locationtech.jts.simplify.DouglasPeuckerSimplifier
import qupath.lib.measurements.MeasurementList
import qupath.lib.measurements.MeasurementListFactory
import qupath.lib.objects.PathCellObject
import qupath.lib.objects.PathObject
import qupath.lib.objects.PathObjects
import qupath.lib.objects.PathROIObject
import qupath.lib.objects.PathTileObject
import qupath.lib.objects.TMACoreObject
import qupath.lib.objects.classes.PathClass
import qupath.lib.regions.ImagePlane
import qupath.lib.roi.EllipseROI
import qupath.lib.roi.GeometryTools
import qupath.lib.roi.ROIs
import qupath.lib.roi.interfaces.ROI

@CompileStatic
class Results {
    static final String PREFIX = "tissuebridge:"
    static final double STEP = 1 / 16
    static final int CORNERS = 16

    /** All objects found: regions as annotations, cells as detections, each with id, score and where it came from. */
    static List<PathObject> objectsOf(AnalysisResult found, String method, double pixelSizeUm, ImagePlane plane) {
        Map<String, String> origin = new LinkedHashMap<>()
        origin.put(PREFIX + "run", found.runId())
        origin.put(PREFIX + "method", method)
        origin.put(PREFIX + "model", found.modelTitle())
        origin.put(PREFIX + "model_digest", found.modelDigest())
        origin.put(PREFIX + "version", found.serverVersion())
        if (method == "propose") origin.put(PREFIX + "parameters", found.parametersInShort())
        List<PathObject> out = new ArrayList<>(found.regionCount() + found.cellCount())
        addRegions(out, found, origin, pixelSizeUm, plane)
        addCells(out, found, origin, pixelSizeUm, plane)
        return out
    }

    static void addRegions(List<PathObject> out, AnalysisResult found, Map<String, String> origin, double um, ImagePlane plane) {
        PathClass[] classes = classesOf(found.regionClasses(), found.colors())
        int[] index = found.regionClass()
        long[] ids = found.regionIds()
        String[] digests = found.regionDigests()
        WKBReader reader = new WKBReader(GeometryTools.getDefaultFactory())
        for (int i = 0; i < index.length; i++) {
            Geometry outline = onGrid(reader.read(found.regionWkb(i)))
            PathObject obj = PathObjects.createAnnotationObject(GeometryTools.geometryToROI(outline, plane), classes[index[i]])
            obj.getMeasurementList().put("Area µm^2", outline.getArea() * um * um)
            marked(obj, ids, digests, i, origin)
            out.add(obj)
        }
    }

    static void addCells(List<PathObject> out, AnalysisResult found, Map<String, String> origin, double um, ImagePlane plane) {
        PathClass[] classes = classesOf(found.cellClasses(), found.colors())
        List<String> regions = found.regionClasses(), numbers = found.numbers()
        int[] index = found.cellClass(), inside = found.cellRegion()
        double[] xy = found.cellXy(), diameters = found.diametersUm()
        float[] values = found.cellNumbers()
        long[] ids = found.cellIds()
        String[] digests = found.cellDigests()
        int m = numbers.size()
        for (int i = 0; i < index.length; i++) {
            ROI roi = diameters.length == 0
                ? ROIs.createPointsROI(rounded(xy[2 * i]), rounded(xy[2 * i + 1]), plane)
                : disc(xy[2 * i], xy[2 * i + 1], diameters[index[i]] / um, plane)
            MeasurementList list = MeasurementListFactory.createMeasurementList(m, MeasurementList.MeasurementListType.FLOAT)
            for (int k = 0; k < m; k++) list.put(numbers.get(k), values[i * m + k])
            list.close()
            PathObject obj = PathObjects.createDetectionObject(roi, classes[index[i]], list)
            if (inside[i] != 255) obj.getMetadata().put(PREFIX + "region", regions.get(inside[i]))
            marked(obj, ids, digests, i, origin)
            out.add(obj)
        }
    }

    static void marked(PathObject obj, long[] ids, String[] digests, int i, Map<String, String> origin) {
        obj.setID(new UUID(ids[2 * i], ids[2 * i + 1]))
        Map<String, String> metadata = obj.getMetadata()
        metadata.putAll(origin)
        metadata.put(PREFIX + "digest", digests[i])
    }

    static PathClass[] classesOf(List<String> names, Map<String, Integer> colors) {
        PathClass[] out = new PathClass[names.size()]
        for (int i = 0; i < out.length; i++) {
            Integer color = colors.get(names.get(i))
            out[i] = PathClass.fromString(names.get(i), color == null ? null : Integer.valueOf(0xFF000000 as int | color))
        }
        return out
    }

    static ROI disc(double x, double y, double diameter, ImagePlane plane) {
        double[] xs = new double[CORNERS], ys = new double[CORNERS]
        for (int k = 0; k < CORNERS; k++) {
            double angle = 2 * Math.PI * k / CORNERS
            xs[k] = rounded(x + Math.cos(angle) / 2 * diameter)
            ys[k] = rounded(y + Math.sin(angle) / 2 * diameter)
        }
        return ROIs.createPolygonROI(xs, ys, plane)
    }

    static double rounded(double x) { return Math.rint(x / STEP) * STEP }

    static Geometry onGrid(Geometry geometry) {
        Geometry copy = geometry.copy()
        copy.apply(new Rounding(STEP))
        copy.geometryChanged()
        return copy.isValid() ? copy : GeometryTools.ensurePolygonal(copy.buffer(0))
    }

    // ---- Whose object is it? --------------------------------------------------------------------------------

    /** The run of ours that wrote an object, or null where it is a person's. */
    static String runOf(PathObject obj) {
        return obj.hasMetadata() ? obj.getMetadata().get(PREFIX + "run") : null
    }

    /** Whether nobody has edited, named, re-classed, locked, accepted or rejected an object of ours. */
    static boolean isUntouched(PathObject obj) {
        Map<String, String> metadata = obj.getMetadata()
        return !obj.isLocked() && metadata.get(PREFIX + "accepted") == null && metadata.get(PREFIX + "rejected") == null
            && metadata.get(PREFIX + "digest") == digestOf(obj)
    }

    /** The digest of tissuebridge.objects.object_digest: type, class, name and shape on the grid of 1/16 px. */
    static String digestOf(PathObject obj) {
        MessageDigest digest = MessageDigest.getInstance("SHA-256")
        PathClass of = obj.getPathClass()
        add(digest, typeOf(obj).getBytes(StandardCharsets.UTF_8))
        add(digest, (of == null || of == PathClass.NULL_CLASS ? "" : of.toString()).getBytes(StandardCharsets.UTF_8))
        add(digest, (obj.getName() == null ? "" : obj.getName()).getBytes(StandardCharsets.UTF_8))
        ROI roi = obj.getROI()
        Geometry shape = Objects.shapeOf(roi)
        add(digest, canonical(roi instanceof EllipseROI ? shape.getEnvelope() : shape))
        if (obj instanceof PathCellObject && ((PathCellObject) obj).getNucleusROI() != null)
            add(digest, canonical(Objects.shapeOf(((PathCellObject) obj).getNucleusROI())))
        return digest.digest().encodeHex().toString().substring(0, 32)
    }

    static String typeOf(PathObject obj) {
        if (obj instanceof TMACoreObject) return "tma_core"
        if (obj instanceof PathCellObject) return "cell"
        if (obj instanceof PathTileObject) return "tile"
        return obj.isDetection() ? "detection" : "annotation"
    }

    static void add(MessageDigest digest, byte[] part) {
        digest.update(ByteBuffer.allocate(8).order(ByteOrder.LITTLE_ENDIAN).putLong(part.length as long).array())
        digest.update(part)
    }

    static byte[] canonical(Geometry shape) {
        Geometry grid = shape.copy()
        grid.apply(new Units(STEP))
        grid.geometryChanged()
        Geometry corners = grid.norm()
        if (!(corners instanceof Point)) {
            DouglasPeuckerSimplifier simplifier = new DouglasPeuckerSimplifier(corners)
            simplifier.setDistanceTolerance(0)
            simplifier.setEnsureValid(false)
            corners = simplifier.getResultGeometry().norm()
        }
        return new WKBWriter(2, ByteOrderValues.LITTLE_ENDIAN).write(inOrderOfGeos(corners))
    }

    /** A normalised geometry with holes and parts as Python's GEOS sorts them: those of more vertices first. */
    static Geometry inOrderOfGeos(Geometry normal) {
        GeometryFactory factory = normal.getFactory()
        if (normal instanceof Polygon) {
            Polygon polygon = (Polygon) normal
            List<LinearRing> holes = []
            for (int i = 0; i < polygon.getNumInteriorRing(); i++) holes.add(polygon.getInteriorRingN(i))
            holes.sort { LinearRing one, LinearRing other -> -compared(one, other) }
            return factory.createPolygon(polygon.getExteriorRing(), holes as LinearRing[])
        }
        int n = normal.getNumGeometries()
        if (n < 2) return normal
        List<Geometry> parts = []
        for (int i = 0; i < n; i++) parts.add(inOrderOfGeos(normal.getGeometryN(i)))
        parts.sort { Geometry one, Geometry other -> -compared(one, other) }
        return normal instanceof MultiPolygon ? factory.createMultiPolygon(parts as Polygon[])
            : normal instanceof MultiPoint ? factory.createMultiPoint(parts as Point[])
            : factory.createGeometryCollection(parts as Geometry[])
    }

    static int compared(Geometry one, Geometry other) {
        Geometry first = one instanceof Polygon ? ((Polygon) one).getExteriorRing() : one
        Geometry second = other instanceof Polygon ? ((Polygon) other).getExteriorRing() : other
        int bySize = Integer.compare(first.getNumPoints(), second.getNumPoints())
        return bySize != 0 ? bySize : first.compareTo(second)
    }

    // ---- What a run may replace -----------------------------------------------------------------------------

    /**
     * Sorts a run's results: `gone` (untouched objects of the same method and model that are not found again just so),
     * `added`, and counts. A new object whose id a person has, or a cell on one that a person kept, is held back; a
     * region is cut at regions that a person kept.
     *
     * Of a run over a part of the image (`area`; null for all that is meant to be analysed) only what lies in it is
     * replaced; what an earlier run has of a region outside stays, cut off.
     */
    static Map<String, Object> reconciled(Collection<PathObject> existing, List<PathObject> found, String method,
                                          String model, double distancePx, Geometry part) {
        PreparedGeometry inside = part == null ? null : PreparedGeometryFactory.prepare(part)
        Map<UUID, PathObject> before = new HashMap<>()
        List<PathObject> kept = new ArrayList<>()
        Set<UUID> taken = new HashSet<>()
        for (PathObject obj : existing) {
            Map<String, String> metadata = obj.hasMetadata() ? obj.getMetadata() : Collections.<String, String>emptyMap()
            boolean isOfSource = metadata.get(PREFIX + "method") == method && metadata.get(PREFIX + "model") == model
            if (isOfSource && isUntouched(obj)) {
                if (isIn(inside, obj)) before.put(obj.getID(), obj)
                continue
            }
            taken.add(obj.getID())
            if (isOfSource || (method == "propose" && runOf(obj) == null)) kept.add(obj)
        }
        STRtree cells = new STRtree()
        Geometry area = null
        for (PathObject obj : kept) {
            if (obj.isAnnotation() && obj.getROI().isArea() && !saysWhatIsThere(obj)) continue
            if (obj.isAnnotation() && obj.getROI().isArea())
                area = area == null ? Objects.shapeOf(obj.getROI()) : area.union(Objects.shapeOf(obj.getROI()))
            else for (Coordinate at : centersOf(obj)) cells.insert(new org.locationtech.jts.geom.Envelope(at), at)
        }
        List<PathObject> added = new ArrayList<>()
        Set<UUID> stays = new HashSet<>()
        int held = 0
        for (PathObject obj : found) {
            PathObject same = before.get(obj.getID())
            if (taken.contains(obj.getID()) || (obj.isDetection() && isNear(cells, obj, distancePx))) held++
            else if (obj.isAnnotation() && area != null && !clip(obj, area)) held++
            else if (same != null && same.getMetadata().get(PREFIX + "digest") == obj.getMetadata().get(PREFIX + "digest"))
                stays.add(obj.getID())
            else added.add(obj)
        }
        before.keySet().removeAll(stays)
        if (part != null) for (PathObject obj : before.values()) addRest(added, obj, part)
        Map<String, Object> out = new LinkedHashMap<>()
        out.put("gone", new ArrayList<PathObject>(before.values()))
        out.put("added", added)
        out.put("told", "${added.size()} added, ${before.size()} replaced, ${stays.size()} unchanged, ${kept.size()} kept, ${held} held back".toString())
        return out
    }

    /** Whether a run over a part of the image replaces an object: a cell in it, a region that it touches. */
    static boolean isIn(PreparedGeometry inside, PathObject obj) {
        if (inside == null) return true
        if (!obj.isDetection()) return inside.intersects(Objects.shapeOf(obj.getROI()))
        Coordinate at = new Coordinate(obj.getROI().getCentroidX(), obj.getROI().getCentroidY())
        return inside.contains(GeometryTools.getDefaultFactory().createPoint(at))
    }

    /** What a region that is replaced in a part of the image has outside of it, as an object of the same run. */
    static void addRest(List<PathObject> added, PathObject obj, Geometry part) {
        if (obj.isDetection()) return
        Geometry rest = GeometryTools.ensurePolygonal(Objects.shapeOf(obj.getROI()).difference(part))
        if (rest.isEmpty() || rest.getArea() < 1) return
        PathObject cut = PathObjects.createAnnotationObject(GeometryTools.geometryToROI(onGrid(rest), obj.getROI().getImagePlane()), obj.getPathClass())
        cut.getMetadata().putAll(obj.getMetadata())
        cut.getMetadata().put(PREFIX + "digest", digestOf(cut))
        added.add(cut)
    }

    /** Whether an area tells of the tissue below it: not one that only says where to look, or has no class at all. */
    static boolean saysWhatIsThere(PathObject obj) {
        PathClass of = obj.getPathClass()
        return of != null && of != PathClass.NULL_CLASS && !(of.toString() in ["Region*", "Cells marked*"])
    }

    static List<Coordinate> centersOf(PathObject obj) {
        if (obj.getROI().isPoint()) return Arrays.asList(obj.getROI().getGeometry().getCoordinates())
        return obj.isDetection() ? [new Coordinate(obj.getROI().getCentroidX(), obj.getROI().getCentroidY())] : []
    }

    static boolean isNear(STRtree cells, PathObject obj, double distance) {
        if (cells.isEmpty()) return false
        Coordinate at = new Coordinate(obj.getROI().getCentroidX(), obj.getROI().getCentroidY())
        org.locationtech.jts.geom.Envelope around = new org.locationtech.jts.geom.Envelope(at)
        around.expandBy(distance)
        for (Object other : cells.query(around)) if (((Coordinate) other).distance(at) <= distance) return true
        return false
    }

    /** Cuts a region at kept ones; tells whether anything is left of it. */
    static boolean clip(PathObject obj, Geometry area) {
        Geometry outline = Objects.shapeOf(obj.getROI())
        if (!outline.intersects(area)) return true
        Geometry left = GeometryTools.ensurePolygonal(outline.difference(area))
        if (left.isEmpty()) return false
        if (left.equalsTopo(outline)) return true
        ((PathROIObject) obj).setROI(GeometryTools.geometryToROI(onGrid(left), obj.getROI().getImagePlane()))
        obj.getMetadata().put(PREFIX + "digest", digestOf(obj))
        return true
    }

    /** Rounds coordinates to multiples of a step. */
    @CompileStatic
    static class Rounding implements CoordinateSequenceFilter {
        final double step

        Rounding(double step) { this.step = step }

        double changed(double x) { return Math.rint(x / step) * step }

        void filter(CoordinateSequence seq, int i) {
            seq.setOrdinate(i, 0, changed(seq.getX(i)))
            seq.setOrdinate(i, 1, changed(seq.getY(i)))
        }

        boolean isDone() { return false }

        boolean isGeometryChanged() { return true }
    }

    /** Coordinates as whole numbers of a step. */
    @CompileStatic
    static class Units extends Rounding {
        Units(double step) { super(step) }

        double changed(double x) { return Math.rint(x / step) }
    }
}
