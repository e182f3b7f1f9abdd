/*
 * Pixels of QuPath's own image servers as red, green, blue: the same from Python's JVM and from the script editor.
 */
package tissuebridge

import groovy.transform.CompileStatic
import java.awt.image.BufferedImage
import java.awt.image.Raster
import qupath.lib.images.servers.ImageServer
import qupath.lib.images.servers.TileRequest
import qupath.lib.regions.RegionRequest

@CompileStatic
class Pixels {
    /** A block of a level, from the server's own tiles, so that nothing is resampled. */
    static byte[] block(ImageServer<BufferedImage> server, int level, int x, int y, int width, int height) {
        return block(server, level, x, y, width, height, 0, 0, null)
    }

    /** The same of a plane, and of three channels where the image is no RGB. */
    static byte[] block(ImageServer<BufferedImage> server, int level, int x, int y, int width, int height, int z, int t,
                        Channels channels) {
        byte[] out = new byte[3 * width * height]
        double scale = server.getDownsampleForResolution(level)
        // A pixel more on each side: tiles' bounds at full resolution are rounded.
        int left = (int) Math.floor((x - 1) * scale), top = (int) Math.floor((y - 1) * scale)
        int right = (int) Math.ceil((x + width + 1) * scale), bottom = (int) Math.ceil((y + height + 1) * scale)
        RegionRequest around = RegionRequest.createInstance(server.getPath(), scale, left, top, right - left, bottom - top, z, t)
        long copied = 0
        for (TileRequest tile : server.getTileRequestManager().getTileRequests(around))
            if (tile.getLevel() == level) copied += copy(server, tile, out, x, y, width, height, channels)
        if (copied != (long) width * height)
            throw new IllegalArgumentException("tiles have " + copied + " of " + (long) width * height + " pixels")
        return out
    }

    /** Copies what a tile has of a block, and tells how many pixels that is. */
    static long copy(ImageServer<BufferedImage> server, TileRequest tile, byte[] out, int x, int y, int width, int height,
                     Channels channels) {
        int left = Math.max(x, tile.getTileX()), top = Math.max(y, tile.getTileY())
        int w = Math.min(x + width, tile.getTileX() + tile.getTileWidth()) - left
        int h = Math.min(y + height, tile.getTileY() + tile.getTileHeight()) - top
        if (w <= 0 || h <= 0) return 0
        BufferedImage image = server.readRegion(tile.getRegionRequest())
        int a = left - tile.getTileX(), b = top - tile.getTileY()
        int[] rgb = channels == null ? image.getRGB(a, b, w, h, null, 0, w) : channels.rgb(image.getRaster(), a, b, w, h)
        for (int j = 0; j < h; j++) {
            int at = 3 * ((top - y + j) * width + left - x)
            for (int i = 0; i < w; i++) {
                int pixel = rgb[j * w + i]
                out[at++] = (byte) (pixel >> 16); out[at++] = (byte) (pixel >> 8); out[at++] = (byte) pixel
            }
        }
        return (long) w * h
    }

    /** Which three channels of an image stand for red, green and blue, and which of their values for 0 and 255. */
    @CompileStatic
    static class Channels {
        final int[] bands
        final double[] low, high

        Channels(int[] bands, double[] low, double[] high) {
            this.bands = bands
            this.low = low
            this.high = high
        }

        int[] rgb(Raster raster, int x, int y, int w, int h) {
            int[] out = new int[w * h]
            double[] samples = null
            for (int k = 0; k < 3; k++) {
                samples = raster.getSamples(x, y, w, h, bands[k], samples)
                for (int i = 0; i < out.length; i++) {
                    double value = (samples[i] - low[k]) / (high[k] - low[k]) * 255
                    out[i] = out[i] << 8 | Math.max(0, Math.min(255, (int) Math.rint(value)))
                }
            }
            return out
        }
    }
}
