/*
 * Objects as GeoJSON for a server: as QuPath exports them, but with outlines as they were drawn (see Objects.shapeOf), of the
 * measurements only a network's scores, and quickly for polygons, of which there may be a million.
 */
package tissuebridge

import groovy.transform.CompileStatic
import java.nio.charset.StandardCharsets
import org.locationtech.jts.geom.Coordinate
import org.locationtech.jts.geom.Geometry
import org.locationtech.jts.geom.LineString
import org.locationtech.jts.geom.Polygon
import qupath.lib.io.GsonTools
import qupath.lib.objects.PathCellObject
import qupath.lib.objects.PathObject
import qupath.lib.objects.classes.PathClass
import qupath.lib.roi.PolygonROI

@CompileStatic
class Features {
    /** What the measurements begin with that say how sure a network was of a cell. */
    private static final String SCORE = "tissuebridge: score "

    /** A FeatureCollection, UTF-8. */
    static byte[] of(List<PathObject> objects) {
        StringBuilder out = new StringBuilder(256 * objects.size() + 64).append('{"type":"FeatureCollection","features":[')
        boolean isFirst = true
        for (PathObject obj : objects) {
            if (!obj.hasROI()) continue
            if (!isFirst) out.append(",\n")
            isFirst = false
            Geometry shape = obj.getROI() instanceof PolygonROI && !(obj instanceof PathCellObject) ? Objects.shapeOf(obj.getROI()) : null
            if (shape instanceof Polygon) polygon(out, obj, (Polygon) shape)
            else out.append(GsonTools.getInstance().toJson(obj))
        }
        return out.append("]}").toString().getBytes(StandardCharsets.UTF_8)
    }

    private static void polygon(StringBuilder out, PathObject obj, Polygon shape) {
        out.append('{"type":"Feature","id":"').append(obj.getID()).append('","geometry":{"type":"Polygon","coordinates":[')
        ring(out, shape.getExteriorRing())
        for (int i = 0; i < shape.getNumInteriorRing(); i++) {
            out.append(",")
            ring(out, shape.getInteriorRingN(i))
        }
        out.append(']},"properties":{"objectType":"').append(Results.typeOf(obj)).append('"')
        PathClass of = obj.getPathClass()
        if (of != null && of != PathClass.NULL_CLASS) {
            int color = of.getColor() == null ? 0 : of.getColor().intValue()
            out.append(',"classification":{"name":').append(Picture.quoted(of.toString())).append(',"color":[')
                .append(color >> 16 & 255).append(",").append(color >> 8 & 255).append(",").append(color & 255).append("]}")
        }
        if (obj.getName() != null) out.append(',"name":').append(Picture.quoted(obj.getName()))
        if (obj.isLocked()) out.append(',"isLocked":true')
        if (obj.hasMetadata()) {
            out.append(',"metadata":{')
            boolean isFirst = true
            for (Map.Entry<String, String> entry : obj.getMetadata().entrySet()) {
                if (!isFirst) out.append(",")
                isFirst = false
                out.append(Picture.quoted(entry.getKey())).append(":").append(Picture.quoted(String.valueOf(entry.getValue())))
            }
            out.append("}")
        }
        scores(out, obj)
        out.append("}}")
    }

    private static void scores(StringBuilder out, PathObject obj) {
        boolean isFirst = true
        for (Map.Entry<String, Number> entry : obj.getMeasurements().entrySet()) {
            double value = entry.getValue().doubleValue()
            if (!entry.getKey().startsWith(SCORE) || !Double.isFinite(value)) continue
            out.append(isFirst ? ',"measurements":{' : ",").append(Picture.quoted(entry.getKey())).append(":").append(value)
            isFirst = false
        }
        if (!isFirst) out.append("}")
    }

    private static void ring(StringBuilder out, LineString line) {
        Coordinate[] corners = line.getCoordinates()
        out.append("[")
        for (int i = 0; i < corners.length; i++) {
            if (i > 0) out.append(",")
            out.append("[").append(corners[i].x).append(",").append(corners[i].y).append("]")
        }
        out.append("]")
    }
}
