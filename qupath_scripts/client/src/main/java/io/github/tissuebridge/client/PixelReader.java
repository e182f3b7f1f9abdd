package io.github.tissuebridge.client;

/** Reads blocks of an image, at the levels that the request named; called from the thread that analyses. */
@FunctionalInterface
public interface PixelReader {

    /**
     * Reads a block that lies wholly inside a level.
     *
     * @param level index of the level, 0 for full resolution
     * @param x left edge, in the level's pixels
     * @param y top edge, in the level's pixels
     * @param width in the level's pixels
     * @param height in the level's pixels
     * @return height * width * 3 bytes: rows from the top, pixels from the left, red, green, blue
     * @throws Exception where the block cannot be read; the analysis ends with it
     */
    byte[] read(int level, int x, int y, int width, int height) throws Exception;
}
