/*
 * Many QuPath objects from flat arrays, and back: 100,000 in a fraction of a second, where calls per object take 16 s.
 *
 * Compiled by QuPath's own Groovy (4 in QuPath 0.6, 5 in 0.7), in a JVM that Python started as in the script editor.
 * The arrays are those of tissuebridge.project.flat.FlatObjects; names of the maps' entries are its fields.
 */
package tissuebridge

import groovy.transform.CompileStatic
import java.nio.ByteBuffer
import java.nio.charset.StandardCharsets
import java.util.stream.IntStream
import org.locationtech.jts.geom.Coordinate
import org.locationtech.jts.geom.Geometry
import org.locationtech.jts.io.WKBReader
import org.locationtech.jts.io.WKBWriter
import qupath.lib.geom.Point2
import qupath.lib.measurements.MeasurementList
import qupath.lib.measurements.MeasurementListFactory
import qupath.lib.objects.PathCellObject
import qupath.lib.objects.PathObject
import qupath.lib.objects.PathObjects
import qupath.lib.objects.PathTileObject
import qupath.lib.objects.TMACoreObject
import qupath.lib.objects.classes.PathClass
import qupath.lib.objects.hierarchy.PathObjectHierarchy
import qupath.lib.regions.ImagePlane
import qupath.lib.roi.EllipseROI
import qupath.lib.roi.GeometryTools
import qupath.lib.roi.PolygonROI
import qupath.lib.roi.ROIs
import qupath.lib.roi.interfaces.ROI

@CompileStatic
class Objects {
    static final int ANNOTATION = 0, DETECTION = 1, CELL = 2, TILE = 3, TMA_CORE = 4
    static final int LOCKED = 1, ELLIPSE = 2, MISSING = 4

    /** Objects of a hierarchy (without its root) as flat arrays. */
    static Map<String, Object> pack(PathObjectHierarchy hierarchy) {
        List<PathObject> all = new ArrayList<>(hierarchy.getAllObjects(false))
        int n = all.size()
        Map<PathObject, Integer> place = new IdentityHashMap<>(2 * n)
        for (int i = 0; i < n; i++) place.put(all.get(i), i)
        long[] ids = new long[2 * n]
        byte[] kind = new byte[n], flags = new byte[n]
        int[] pathClass = new int[n], name = new int[n], parent = new int[n], plane = new int[3 * n]
        Table classes = new Table(), strings = new Table()
        List<Integer> colors = new ArrayList<>()
        Pairs metadata = new Pairs(n), measured = new Pairs(n)
        Doubles values = new Doubles()
        for (int i = 0; i < n; i++) {
            PathObject obj = all.get(i)
            ids[2 * i] = obj.getID().getMostSignificantBits()
            ids[2 * i + 1] = obj.getID().getLeastSignificantBits()
            kind[i] = (byte) kindOf(obj)
            ROI roi = obj.getROI()
            flags[i] = (byte) ((obj.isLocked() ? LOCKED : 0) | (roi instanceof EllipseROI ? ELLIPSE : 0)
                | (obj instanceof TMACoreObject && ((TMACoreObject) obj).isMissing() ? MISSING : 0))
            PathClass of = obj.getPathClass()
            if (of == null || of == PathClass.NULL_CLASS) pathClass[i] = -1
            else {
                pathClass[i] = classes.of(of.toString())
                if (pathClass[i] == colors.size()) colors.add(of.getColor())
            }
            name[i] = obj.getName() == null ? -1 : strings.of(obj.getName())
            parent[i] = place.getOrDefault(obj.getParent(), -1)
            if (roi != null) { plane[3 * i] = roi.getC(); plane[3 * i + 1] = roi.getZ(); plane[3 * i + 2] = roi.getT() }
            if (obj.hasMetadata())
                for (Map.Entry<String, String> entry : obj.getMetadata().entrySet())
                    metadata.add(strings.of(entry.getKey()), strings.of(String.valueOf(entry.getValue())))
            metadata.end(i)
            if (obj.hasMeasurements()) {
                MeasurementList list = obj.getMeasurementList()
                List<String> names = list.getNames()
                double[] numbers = list.values()
                for (int k = 0; k < numbers.length; k++) { measured.add(strings.of(names.get(k)), 0); values.add(numbers[k]) }
            }
            measured.end(i)
        }
        Map<String, Object> out = new HashMap<>()
        out.put("ids", ids); out.put("kind", kind); out.put("flags", flags); out.put("path_class", pathClass)
        out.put("name", name); out.put("parent", parent); out.put("plane", plane)
        out.put("class_colors", colors.collect { Integer color -> color == null ? 0 : color.intValue() } as int[])
        out.put("metadata_ends", metadata.ends); out.put("metadata_keys", metadata.firsts())
        out.put("metadata_values", metadata.seconds())
        out.put("measurement_ends", measured.ends); out.put("measurement_names", measured.firsts())
        out.put("measurement_values", values.all())
        putBytes(out, "classes", classes.encoded())
        putBytes(out, "strings", strings.encoded())
        putRings(out, all)
        putBytes(out, "geometries", geometries(all, false))
        putBytes(out, "nuclei", geometries(all, true))
        return out
    }

    static int kindOf(PathObject obj) {
        if (obj instanceof TMACoreObject) return TMA_CORE
        if (obj instanceof PathCellObject) return CELL
        if (obj instanceof PathTileObject) return TILE
        return obj.isDetection() ? DETECTION : ANNOTATION
    }

    /** WKB of each shape, on all cores; empty where `rings` has the outline. */
    static byte[][] geometries(List<PathObject> all, boolean nuclei) {
        byte[][] out = new byte[all.size()][]
        ThreadLocal<WKBWriter> writers = ThreadLocal.withInitial { new WKBWriter(2, 2) }
        IntStream.range(0, all.size()).parallel().forEach { int i ->
            ROI roi = nuclei ? nucleusOf(all.get(i)) : all.get(i).getROI()
            boolean isWritten = hasShape(roi) && (nuclei || !isRing(all.get(i)))
            out[i] = isWritten ? writers.get().write(shapeOf(roi)) : new byte[0]
        }
        return out
    }

    /**
     * A ROI's shape: a polygon's outline as it was drawn where that is valid, else what QuPath makes of it.
     *
     * QuPath goes through java.awt.geom.Area, which loses parts of outlines that run along pixel borders: of a region of
     * 338,188 px a third (seen on QuPath 0.7 with Java 25).
     */
    static Geometry shapeOf(ROI roi) {
        if (roi instanceof PolygonROI) {
            List<Coordinate> corners = []
            for (Point2 point : roi.getAllPoints()) corners.add(new Coordinate(point.getX(), point.getY()))
            if (corners.size() > 2) {
                if (corners.get(0) != corners.get(corners.size() - 1)) corners.add(corners.get(0).copy())
                if (corners.size() > 3) {
                    Geometry outline = GeometryTools.getDefaultFactory().createPolygon(corners as Coordinate[])
                    if (outline.isValid()) return outline
                }
            }
        }
        return roi.getGeometry()
    }

    /** Whether there is anything; a polygon's own `isEmpty` computes its area, which takes long for many. */
    static boolean hasShape(ROI roi) {
        if (roi instanceof PolygonROI) return true
        return roi != null && !roi.isEmpty()
    }

    static ROI nucleusOf(PathObject obj) {
        return obj instanceof PathCellObject ? ((PathCellObject) obj).getNucleusROI() : null
    }

    /** Whether an outline is taken as it stands: of many detections, where a valid geometry would take 0.1 ms each. */
    static boolean isRing(PathObject obj) {
        return obj.isDetection() && obj.getROI() instanceof PolygonROI
    }

    /** Vertices (x, y) of the detections' outlines, end to end, without the first again. */
    static void putRings(Map<String, Object> out, List<PathObject> all) {
        int n = all.size()
        float[][] parts = new float[n][]
        IntStream.range(0, n).parallel().forEach { int i ->
            if (isRing(all.get(i))) parts[i] = vertices(((PolygonROI) all.get(i).getROI()).getAllPoints())
        }
        int[] ends = new int[n]
        int total = 0
        for (int i = 0; i < n; i++) {
            if (parts[i] != null) total = Math.addExact(total, parts[i].length)
            ends[i] = total >> 1
        }
        float[] rings = new float[total]
        for (int i = 0, at = 0; i < n; i++)
            if (parts[i] != null) {
                System.arraycopy(parts[i], 0, rings, at, parts[i].length)
                at += parts[i].length
            }
        out.put("rings", rings)
        out.put("rings_ends", ends)
    }

    static float[] vertices(List<Point2> points) {
        float[] out = new float[2 * points.size()]
        int at = 0
        for (Point2 point : points) { out[at++] = (float) point.getX(); out[at++] = (float) point.getY() }
        return out
    }

    /** Objects from flat arrays; classes that exist keep their colour, as QuPath has it. */
    static List<PathObject> unpack(Map<String, Object> from) {
        long[] ids = (long[]) from.get("ids")
        byte[] kind = (byte[]) from.get("kind"), flags = (byte[]) from.get("flags")
        int[] pathClass = (int[]) from.get("path_class"), name = (int[]) from.get("name"), plane = (int[]) from.get("plane")
        int[] metadataEnds = (int[]) from.get("metadata_ends"), keys = (int[]) from.get("metadata_keys")
        int[] texts = (int[]) from.get("metadata_values")
        int[] measurementEnds = (int[]) from.get("measurement_ends"), names = (int[]) from.get("measurement_names")
        double[] values = (double[]) from.get("measurement_values")
        PathClass[] classes = classesOf(from)
        String[] strings = decoded(from, "strings")
        int n = kind.length
        ROI[] rois = roisOf(from, "geometries", plane, flags), nuclei = roisOf(from, "nuclei", plane, new byte[n])
        addRings(from, rois, plane)
        List<PathObject> out = new ArrayList<>(n)
        for (int i = 0; i < n; i++) {
            PathObject obj = created(kind[i], rois[i], nuclei[i])
            obj.setID(new UUID(ids[2 * i], ids[2 * i + 1]))
            if (pathClass[i] >= 0) obj.setPathClass(classes[pathClass[i]])
            if (name[i] >= 0) obj.setName(strings[name[i]])
            int a = i == 0 ? 0 : measurementEnds[i - 1], b = measurementEnds[i]
            if (b > a) {
                MeasurementList list = obj.getMeasurementList()
                for (int k = a; k < b; k++) list.put(strings[names[k]], values[k])
                list.close()
            }
            a = i == 0 ? 0 : metadataEnds[i - 1]
            b = metadataEnds[i]
            if (b > a) {
                Map<String, String> metadata = obj.getMetadata()
                for (int k = a; k < b; k++) metadata.put(strings[keys[k]], strings[texts[k]])
            }
            if ((flags[i] & LOCKED) != 0) obj.setLocked(true)
            out.add(obj)
        }
        return out
    }

    static PathObject created(int kind, ROI roi, ROI nucleus) {
        if (kind == ANNOTATION) return PathObjects.createAnnotationObject(roi)
        MeasurementList list = MeasurementListFactory.createMeasurementList(4, MeasurementList.MeasurementListType.FLOAT)
        if (kind == DETECTION) return PathObjects.createDetectionObject(roi, null, list)
        if (kind == CELL) return PathObjects.createCellObject(roi, nucleus, null, list)
        if (kind == TILE) return PathObjects.createTileObject(roi, null, list)
        throw new IllegalArgumentException("TMA cores are not written, kind " + kind)
    }

    static PathClass[] classesOf(Map<String, Object> from) {
        String[] names = decoded(from, "classes")
        int[] colors = (int[]) from.get("class_colors")
        PathClass[] out = new PathClass[names.length]
        for (int i = 0; i < names.length; i++)
            out[i] = PathClass.fromString(names[i], colors[i] == 0 ? null : Integer.valueOf(colors[i]))
        return out
    }

    static ROI[] roisOf(Map<String, Object> from, String what, int[] plane, byte[] flags) {
        byte[] bytes = (byte[]) from.get(what)
        int[] ends = (int[]) from.get(what + "_ends")
        ROI[] out = new ROI[ends.length]
        ThreadLocal<WKBReader> readers = ThreadLocal.withInitial { new WKBReader(GeometryTools.getDefaultFactory()) }
        IntStream.range(0, ends.length).parallel().forEach { int i ->
            int a = i == 0 ? 0 : ends[i - 1]
            if (ends[i] > a) {
                ImagePlane at = planeOf(plane, i)
                ROI roi = GeometryTools.geometryToROI(readers.get().read(Arrays.copyOfRange(bytes, a, ends[i])), at)
                out[i] = (flags[i] & ELLIPSE) == 0 ? roi :
                    ROIs.createEllipseROI(roi.getBoundsX(), roi.getBoundsY(), roi.getBoundsWidth(), roi.getBoundsHeight(), at)
            }
        }
        return out
    }

    static void addRings(Map<String, Object> from, ROI[] rois, int[] plane) {
        float[] rings = (float[]) from.get("rings")
        int[] ends = (int[]) from.get("rings_ends")
        for (int i = 0, a = 0; i < ends.length; a = ends[i], i++) {
            int n = ends[i] - a
            if (n == 0) continue
            double[] x = new double[n], y = new double[n]
            for (int j = 0; j < n; j++) { x[j] = rings[2 * (a + j)]; y[j] = rings[2 * (a + j) + 1] }
            rois[i] = ROIs.createPolygonROI(x, y, planeOf(plane, i))
        }
    }

    static ImagePlane planeOf(int[] plane, int i) {
        return ImagePlane.getPlaneWithChannel(plane[3 * i], plane[3 * i + 1], plane[3 * i + 2])
    }

    /**
     * Takes objects away and adds others, with one event at the end; children of what goes stay, with its parent.
     *
     * Each new object lies below the object whose id `parents` has for it (two longs), or below the root (zeros).
     */
    static void change(PathObjectHierarchy hierarchy, long[] gone, List<PathObject> added, long[] parents) {
        Set<UUID> going = new HashSet<>(gone.length)
        for (int i = 0; i < gone.length; i += 2) going.add(new UUID(gone[i], gone[i + 1]))
        Map<PathObject, List<PathObject>> leaving = new IdentityHashMap<>(), staying = new IdentityHashMap<>()
        if (!going.isEmpty())
            for (PathObject obj : hierarchy.getAllObjects(false)) {
                if (going.contains(obj.getID())) leaving.computeIfAbsent(obj.getParent()) { new ArrayList<>() }.add(obj)
                else if (going.contains(obj.getParent().getID()))
                    staying.computeIfAbsent(heir(obj, going)) { new ArrayList<>() }.add(obj)
            }
        for (Map.Entry<PathObject, List<PathObject>> entry : staying.entrySet()) entry.getKey().addChildObjects(entry.getValue())
        for (Map.Entry<PathObject, List<PathObject>> entry : leaving.entrySet()) entry.getKey().removeChildObjects(entry.getValue())
        add(hierarchy, added, parents)
        hierarchy.fireHierarchyChangedEvent(hierarchy.getRootObject())
    }

    static PathObject heir(PathObject obj, Set<UUID> going) {
        PathObject parent = obj.getParent()
        while (parent.getParent() != null && going.contains(parent.getID())) parent = parent.getParent()
        return parent
    }

    static void add(PathObjectHierarchy hierarchy, List<PathObject> added, long[] parents) {
        Map<UUID, List<PathObject>> below = new LinkedHashMap<>()
        UUID root = new UUID(0, 0)
        for (int i = 0; i < added.size(); i++) {
            UUID id = new UUID(parents[2 * i], parents[2 * i + 1])
            below.computeIfAbsent(id) { new ArrayList<>() }.add(added.get(i))
        }
        Map<UUID, PathObject> known = new HashMap<>()
        if (below.size() > 1 || !below.containsKey(root)) {
            for (PathObject obj : added) if (below.containsKey(obj.getID())) known.put(obj.getID(), obj)
            for (PathObject obj : hierarchy.getAllObjects(false))
                if (below.containsKey(obj.getID())) known.put(obj.getID(), obj)
        }
        for (Map.Entry<UUID, List<PathObject>> entry : below.entrySet())
            known.getOrDefault(entry.getKey(), hierarchy.getRootObject()).addChildObjects(entry.getValue())
    }

    /** Puts measurements on objects, row by row; NaN leaves an object's own. Tells how many objects there were. */
    static int measure(PathObjectHierarchy hierarchy, long[] ids, String[] names, double[] values) {
        Map<UUID, Integer> rows = new HashMap<>()
        for (int i = 0; i < ids.length; i += 2) rows.put(new UUID(ids[i], ids[i + 1]), i >> 1)
        List<PathObject> measured = []
        for (PathObject obj : hierarchy.getAllObjects(false)) {
            Integer row = rows.get(obj.getID())
            if (row == null) continue
            MeasurementList list = obj.getMeasurementList()
            for (int k = 0; k < names.length; k++) {
                double value = values[row.intValue() * names.length + k]
                if (!Double.isNaN(value)) list.put(names[k], value)
            }
            list.close()
            measured.add(obj)
        }
        hierarchy.fireObjectMeasurementsChangedEvent(hierarchy, measured)
        return measured.size()
    }

    /** Those objects that have one of the ids, with all they are; what lay below them stays where it is. */
    static List<PathObject> chosen(PathObjectHierarchy hierarchy, long[] ids) {
        Set<UUID> wanted = new HashSet<>()
        for (int i = 0; i < ids.length; i += 2) wanted.add(new UUID(ids[i], ids[i + 1]))
        List<PathObject> out = new ArrayList<>()
        for (PathObject obj : hierarchy.getAllObjects(false)) if (wanted.contains(obj.getID())) out.add(obj)
        return out
    }

    /** The id (two longs) of what each object lies below, zeros for the root; then takes them out of there. */
    static long[] parentsOf(List<PathObject> objects) {
        long[] out = new long[2 * objects.size()]
        for (int i = 0; i < objects.size(); i++) {
            PathObject parent = objects.get(i).getParent()
            if (parent == null || parent.isRootObject()) continue
            out[2 * i] = parent.getID().getMostSignificantBits()
            out[2 * i + 1] = parent.getID().getLeastSignificantBits()
        }
        for (PathObject obj : objects) obj.clearChildObjects()
        return out
    }

    static void putBytes(Map<String, Object> out, String what, byte[][] parts) {
        int[] ends = new int[parts.length]
        int total = 0
        for (int i = 0; i < parts.length; i++) { total = Math.addExact(total, parts[i].length); ends[i] = total }
        ByteBuffer all = ByteBuffer.allocate(total)
        for (byte[] part : parts) all.put(part)
        out.put(what, all.array())
        out.put(what + "_ends", ends)
    }

    static String[] decoded(Map<String, Object> from, String what) {
        byte[] bytes = (byte[]) from.get(what)
        int[] ends = (int[]) from.get(what + "_ends")
        String[] out = new String[ends.length]
        for (int i = 0, a = 0; i < ends.length; a = ends[i], i++) out[i] = new String(bytes, a, ends[i] - a, StandardCharsets.UTF_8)
        return out
    }

    /** Texts by number: each once, however many objects have it. */
    @CompileStatic
    static class Table {
        private final Map<String, Integer> numbers = new LinkedHashMap<>()

        int of(String text) {
            Integer known = numbers.get(text)
            if (known != null) return known.intValue()
            numbers.put(text, numbers.size())
            return numbers.size() - 1
        }

        byte[][] encoded() {
            byte[][] out = new byte[numbers.size()][]
            int i = 0
            for (String text : numbers.keySet()) out[i++] = text.getBytes(StandardCharsets.UTF_8)
            return out
        }
    }

    /** For each object some pairs of numbers; `ends` tells where each object's end. */
    @CompileStatic
    static class Pairs {
        final int[] ends
        private int[] pairs = new int[64]
        private int size = 0

        Pairs(int n) { ends = new int[n] }

        void add(int first, int second) {
            if (2 * size == pairs.length) pairs = Arrays.copyOf(pairs, 4 * size)
            pairs[2 * size] = first
            pairs[2 * size + 1] = second
            size++
        }

        void end(int i) { ends[i] = size }

        int[] firsts() { return every(0) }

        int[] seconds() { return every(1) }

        private int[] every(int which) {
            int[] out = new int[size]
            for (int i = 0; i < size; i++) out[i] = pairs[2 * i + which]
            return out
        }
    }

    /** A list of numbers without a box around each. */
    @CompileStatic
    static class Doubles {
        private double[] numbers = new double[64]
        private int size = 0

        void add(double number) {
            if (size == numbers.length) numbers = Arrays.copyOf(numbers, 2 * size)
            numbers[size++] = number
        }

        double[] all() { return Arrays.copyOf(numbers, size) }
    }
}
