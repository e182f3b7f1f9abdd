/*
 * An image of QuPath as a tissuebridge server sees it: which image it is, which plane, which channels; and its blocks.
 */
package tissuebridge

import com.google.gson.JsonArray
import com.google.gson.JsonElement
import com.google.gson.JsonObject
import com.google.gson.JsonPrimitive
import groovy.transform.CompileStatic
import io.github.tissuebridge.client.AnalysisRequest
import io.github.tissuebridge.client.TissuebridgeException
import java.awt.image.BufferedImage
import java.text.Normalizer
import qupath.lib.gui.QuPathGUI
import qupath.lib.gui.viewer.QuPathViewer
import qupath.lib.images.ImageData
import qupath.lib.images.servers.ImageServer
import qupath.lib.images.servers.ImageServerBuilder
import qupath.lib.images.servers.ImageServerMetadata
import qupath.lib.images.servers.PixelCalibration
import qupath.lib.images.servers.PixelType
import qupath.lib.io.GsonTools
import qupath.lib.projects.ProjectImageEntry
import qupath.lib.regions.ImagePlane

@CompileStatic
class Picture {
    final ImageServer<BufferedImage> server
    final ImagePlane plane
    final Pixels.Channels channels
    final double pixelSizeUm
    final String name, transform
    final int series

    /** Options: channels, three names where the image is no RGB; not asked for where no pixel is looked at. */
    Picture(ImageData<BufferedImage> imageData, ProjectImageEntry<BufferedImage> entry, Map<String, Object> options, boolean hasPixels = true) {
        server = imageData.getServer()
        channels = hasPixels ? channelsOf(server, (List<Object>) options.getOrDefault("channels", [])) : null
        pixelSizeUm = pixelSizeOf(server.getPixelCalibration())
        plane = planeShown(imageData)
        name = nameOf(server)
        ImageServerBuilder.ServerBuilder<BufferedImage> builder = entry == null ? server.getBuilder() : entry.getServerBuilder()
        JsonElement json = GsonTools.getInstance().toJsonTree(builder, ImageServerBuilder.ServerBuilder.class)
        transform = transformOf(json) + (isDefault() ? "" : "z=${plane.getZ()},t=${plane.getT()}".toString()) +
            (channels == null ? "" : "channels=${options.get('channels')}".toString())
        series = seriesOf(json)
    }

    static double pixelSizeOf(PixelCalibration calibration) {
        String cure = "Set it in the Image tab (click on the pixel width twice)."
        if (!calibration.hasPixelSizeMicrons())
            throw new TissuebridgeException("CalibrationError", "This image has no pixel size. " + cure, null)
        double x = calibration.getPixelWidthMicrons(), y = calibration.getPixelHeightMicrons()
        if (Math.abs(x - y) > 0.01 * Math.min(x, y))
            throw new TissuebridgeException("CalibrationError", "This image's pixels are not square, ${x} x ${y} um. ${cure}".toString(), null)
        return calibration.getAveragedPixelSizeMicrons()
    }

    boolean isDefault() { return plane.getZ() == 0 && plane.getT() == 0 }

    boolean has(ImagePlane other) { return other.getZ() == plane.getZ() && other.getT() == plane.getT() }

    AnalysisRequest request() {
        AnalysisRequest request = new AnalysisRequest(name, server.getWidth(), server.getHeight(), pixelSizeUm)
        for (ImageServerMetadata.ImageResolutionLevel level : server.getMetadata().getLevels())
            request.level(level.getWidth(), level.getHeight(), level.getDownsample())
        return request.view(series, transform)
    }

    byte[] block(int level, int x, int y, int width, int height) {
        return Pixels.block(server, level, x, y, width, height, plane.getZ(), plane.getT(), channels)
    }

    /** What is to be said of it before anything begins. */
    String told() {
        List<String> said = []
        if (server.nZSlices() > 1 || server.nTimepoints() > 1)
            said.add("of ${server.nZSlices()} z-slices and ${server.nTimepoints()} time points only z ${plane.getZ()}, t ${plane.getT()}".toString())
        if (channels != null) said.add("three channels stand for red, green and blue")
        return said.join("; ")
    }

    /** The plane that a viewer shows, else the first. */
    static ImagePlane planeShown(ImageData<?> imageData) {
        QuPathViewer viewer = QuPathGUI.getInstance()?.getAllViewers()?.find { QuPathViewer one -> one.getImageData().is(imageData) }
        return viewer == null ? ImagePlane.getDefaultPlane() : ImagePlane.getPlane(viewer.getZPosition(), viewer.getTPosition())
    }

    /** The file's name, as in a folder and by batch: with size and pixel size it makes the image this image. */
    static String nameOf(ImageServer<BufferedImage> server) {
        Collection<URI> uris = server.getURIs()
        if (uris.isEmpty()) return server.getMetadata().getName()
        String path = uris.iterator().next().getPath()
        return Normalizer.normalize(path.substring(path.lastIndexOf("/") + 1), Normalizer.Form.NFC)
    }

    // ---- Channels -------------------------------------------------------------------------------------------

    /** Three of an image's channels, each "NAME" or "NAME LOW..HIGH"; null for RGB. */
    static Pixels.Channels channelsOf(ImageServer<BufferedImage> server, List<Object> named) {
        if (server.isRGB()) return null
        List<String> names = server.getMetadata().getChannels()*.getName()
        if (named.size() != 3)
            throw new TissuebridgeException("ImageError", "This image is not 8-bit RGB. For fluorescence name the three channels "
                + "that stand for red, green and blue: CHANNELS = ['" + names.take(3).join("', '") + "']. It has " + names.join(", ")
                + ". Only a model that was trained so can be expected to find anything.", null)
        int[] bands = new int[3]
        double[] low = new double[3], high = new double[3]
        boolean isByte = server.getPixelType() == PixelType.UINT8
        for (int k = 0; k < 3; k++) {
            String text = named.get(k).toString().trim()
            java.util.regex.Matcher range = text =~ /^(.*\S)\s+([-\d.]+?)\.\.([-\d.]+)$/
            boolean hasRange = range.matches()
            String wanted = hasRange ? range.group(1) : text
            bands[k] = names.indexOf(wanted)
            if (bands[k] < 0)
                throw new TissuebridgeException("ImageError", "This image has no channel '${wanted}'; it has ${names.join(', ')}.".toString(), null)
            if (!hasRange && !isByte)
                throw new TissuebridgeException("ImageError", ("Values of '${wanted}' are ${server.getPixelType()}, not bytes: say which are "
                    + "black and white, as '${wanted} 0..4000'.").toString(), null)
            low[k] = hasRange ? Double.parseDouble(range.group(2)) : 0
            high[k] = hasRange ? Double.parseDouble(range.group(3)) : 255
            if (high[k] <= low[k])
                throw new TissuebridgeException("ImageError", "'${text}': the second value must be larger.".toString(), null)
        }
        return new Pixels.Channels(bands, low, high)
    }

    // ---- Identity, as tissuebridge.project.qpproj reads it from the project's file --------------------------

    /** What lies around the file's own builder, as Python writes JSON; "" for nothing. */
    static String transformOf(JsonElement builder) {
        JsonElement kept = kept(builder)
        if (kept.isJsonObject() && kept.getAsJsonObject().size() == 0) return ""
        return kept.isJsonPrimitive() && kept.getAsString() == "file" ? "" : written(kept)
    }

    static JsonElement kept(JsonElement value) {
        if (value.isJsonArray()) {
            JsonArray out = new JsonArray()
            for (JsonElement inner : value.getAsJsonArray()) out.add(kept(inner))
            return out
        }
        if (!value.isJsonObject()) return value
        JsonObject from = value.getAsJsonObject()
        if (from.has("uri") && from.has("providerClassName")) return new JsonPrimitive("file")
        JsonObject out = new JsonObject()
        for (String key : new TreeSet<String>(from.keySet())) if (key != "metadata") out.add(key, kept(from.get(key)))
        return out
    }

    static String written(JsonElement value) {
        if (value.isJsonArray()) return "[" + value.getAsJsonArray().collect { JsonElement inner -> written(inner) }.join(",") + "]"
        if (value.isJsonObject())
            return "{" + value.getAsJsonObject().entrySet().collect { Map.Entry<String, JsonElement> entry ->
                quoted(entry.getKey()) + ":" + written(entry.getValue())
            }.join(",") + "}"
        if (value.isJsonNull()) return "null"
        JsonPrimitive one = value.getAsJsonPrimitive()
        if (one.isString()) return quoted(one.getAsString())
        return one.isNumber() ? number(one.getAsString()) : one.getAsString()
    }

    /** A number as Python writes it: 1.0, 0.25, 1e-05. */
    static String number(String text) {
        if (text ==~ /-?\d+/) return text
        double value = Double.parseDouble(text)
        double size = Math.abs(value)
        if (size == 0 || (size >= 1e-4 && size < 1e16)) {
            String plain = new BigDecimal(Double.toString(value)).toPlainString()
            return plain.contains(".") ? plain : plain + ".0"
        }
        String[] parts = Double.toString(value).split("E")
        int exponent = Integer.parseInt(parts[1])
        String sign = exponent < 0 ? "-" : "+", digits = String.valueOf(Math.abs(exponent))
        return parts[0].replaceAll(/\.0$/, "") + "e" + sign + (digits.length() < 2 ? "0" + digits : digits)
    }

    static String quoted(String text) {
        StringBuilder out = new StringBuilder("\"")
        for (char c : text.toCharArray()) {
            int code = (int) c
            if (c == (char) '"' || c == (char) '\\') out.append((char) '\\').append(c)
            else if (code == 10) out.append("\\n")
            else if (code == 9) out.append("\\t")
            else if (code == 13) out.append("\\r")
            else if (code < 32 || code > 126) out.append(String.format("\\u%04x", code))
            else out.append(c)
        }
        return out.append("\"").toString()
    }

    /** Bio-Formats' `--series N`, else the first. */
    static int seriesOf(JsonElement builder) {
        List<String> arguments = []
        collect(builder, arguments)
        for (int i = 0; i + 1 < arguments.size(); i++)
            if ((arguments[i] == "--series" || arguments[i] == "-s") && arguments[i + 1].isInteger())
                return Integer.parseInt(arguments[i + 1])
        return 0
    }

    static void collect(JsonElement value, List<String> arguments) {
        if (value.isJsonArray()) for (JsonElement inner : value.getAsJsonArray()) collect(inner, arguments)
        if (!value.isJsonObject()) return
        JsonObject from = value.getAsJsonObject()
        boolean isFile = from.has("uri") && from.has("providerClassName")
        if (isFile && from.has("args"))
            for (JsonElement one : from.getAsJsonArray("args")) arguments.add(one.getAsString())
        if (!isFile)
            for (Map.Entry<String, JsonElement> entry : from.entrySet()) if (entry.getKey() != "metadata") collect(entry.getValue(), arguments)
    }
}
