package io.github.tissuebridge.client;

import com.google.protobuf.ByteString;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import tissuebridge.rpc.v1.Cells;
import tissuebridge.rpc.v1.Model;

/**
 * Which candidates are cells: those that reach their class's threshold and that no cell of another class outdoes. The rule is
 * that of the server (METHOD, "Across classes"; tissuemodel.detection.suppress_across_classes): local, not greedy.
 */
final class CellFilter {

    private final Cells all;
    private final int count;
    private final int numbers;
    private final byte[] kind;
    private final float[] scores;
    private final int[] pixels;
    private final double radiusPx;

    private CellFilter(Cells all, Model model) {
        this.all = all;
        kind = all.getClassIndex().toByteArray();
        count = kind.length;
        numbers = model.getCellClassesCount();
        scores = new float[count * numbers];
        little(all.getScores()).asFloatBuffer().get(scores);
        pixels = new int[2 * count];
        little(all.getPixels()).asIntBuffer().get(pixels);
        radiusPx = model.hasCrossClassRadiusUm() ? model.getCrossClassRadiusUm() / model.getPixelSizeUm() : -1;
    }

    static CellFilter of(List<Cells> batches, Model model) {
        Cells.Builder joined = Cells.newBuilder();
        ByteString[] parts = new ByteString[7];
        Arrays.fill(parts, ByteString.EMPTY);
        for (Cells batch : batches) {
            ByteString[] more = {batch.getXy(), batch.getClassIndex(), batch.getScores(), batch.getRegionIndex(),
                batch.getPixels(), batch.getIds(), batch.getDigests()};
            for (int i = 0; i < parts.length; i++) {
                parts[i] = parts[i].concat(more[i]);
            }
        }
        return new CellFilter(joined.setXy(parts[0]).setClassIndex(parts[1]).setScores(parts[2]).setRegionIndex(parts[3])
                .setPixels(parts[4]).setIds(parts[5]).setDigests(parts[6]).build(), model);
    }

    Cells above(float[] thresholds) {
        int[] found = new int[count];
        int n = 0;
        for (int i = 0; i < count; i++) {
            if (score(i) >= thresholds[kind[i]]) {
                found[n++] = i;
            }
        }
        return taken(radiusPx < 0 ? Arrays.copyOf(found, n) : outdoneByNone(Arrays.copyOf(found, n)));
    }

    private float score(int i) {
        return scores[i * numbers + kind[i]];
    }

    private int[] outdoneByNone(int[] found) {
        double side = Math.max(1, Math.ceil(radiusPx));
        Map<Long, int[]> buckets = new HashMap<>();
        for (int i : found) {
            buckets.merge(bucket(i, side, 0, 0), new int[] {i}, CellFilter::joined);
        }
        return Arrays.stream(found).filter(i -> {
            for (int dy = -1; dy <= 1; dy++) {
                for (int dx = -1; dx <= 1; dx++) {
                    for (int other : buckets.getOrDefault(bucket(i, side, dy, dx), new int[0])) {
                        if (isOutdone(i, other)) {
                            return false;
                        }
                    }
                }
            }
            return true;
        }).toArray();
    }

    private boolean isOutdone(int i, int other) {
        if (kind[i] == kind[other]) {
            return false;
        }
        long dy = pixels[2 * i] - pixels[2 * other];
        long dx = pixels[2 * i + 1] - pixels[2 * other + 1];
        boolean isBetter = score(other) > score(i) || (score(other) == score(i) && kind[other] < kind[i]);
        return isBetter && dy * dy + dx * dx <= radiusPx * radiusPx;
    }

    private long bucket(int i, double side, int dy, int dx) {
        long row = (long) Math.floor(pixels[2 * i] / side) + dy;
        long col = (long) Math.floor(pixels[2 * i + 1] / side) + dx;
        return row << 32 | (col & 0xFFFFFFFFL);
    }

    private static int[] joined(int[] one, int[] other) {
        int[] out = Arrays.copyOf(one, one.length + other.length);
        System.arraycopy(other, 0, out, one.length, other.length);
        return out;
    }

    private Cells taken(int[] which) {
        return Cells.newBuilder().setXy(taken(all.getXy(), 16, which)).setClassIndex(taken(all.getClassIndex(), 1, which))
                .setScores(taken(all.getScores(), 4 * numbers, which)).setRegionIndex(taken(all.getRegionIndex(), 1, which))
                .setPixels(taken(all.getPixels(), 8, which)).setIds(taken(all.getIds(), 16, which))
                .setDigests(taken(all.getDigests(), 16, which)).build();
    }

    private static ByteString taken(ByteString from, int size, int[] which) {
        byte[] bytes = from.toByteArray();
        byte[] out = new byte[size * which.length];
        for (int k = 0; k < which.length; k++) {
            System.arraycopy(bytes, size * which[k], out, size * k, size);
        }
        return ByteString.copyFrom(out);
    }

    private static ByteBuffer little(ByteString bytes) {
        return ByteBuffer.wrap(bytes.toByteArray()).order(ByteOrder.LITTLE_ENDIAN);
    }
}
