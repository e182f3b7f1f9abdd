package io.github.tissuebridge.client;

import com.google.protobuf.ByteString;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.zip.GZIPInputStream;
import java.util.zip.GZIPOutputStream;
import tissuebridge.rpc.v1.Accepted;
import tissuebridge.rpc.v1.Cells;
import tissuebridge.rpc.v1.Model;
import tissuebridge.rpc.v1.Region;
import tissuebridge.rpc.v1.Regions;
import tissuebridge.rpc.v1.Summary;

/** What was found in an image, as flat arrays that go into QuPath's objects in bulk. */
public final class AnalysisResult {

    private final Accepted accepted;
    private final List<Cells> batches = new ArrayList<>();
    private final List<Region> regions = new ArrayList<>();
    private Summary summary = Summary.getDefaultInstance();

    AnalysisResult(Accepted accepted) {
        this.accepted = accepted;
    }

    void add(Cells cells) {
        batches.add(cells);
    }

    void add(Regions found) {
        regions.addAll(found.getRegionsList());
    }

    void finish(Summary last) {
        summary = last;
    }

    // ---- Thresholds moved afterwards ------------------------------------------------------------------------

    /**
     * The same with those cells that reach their thresholds and that no better cell of another class outdoes, by the
     * model's rule. Of a result that was asked for unfiltered.
     *
     * @param thresholds cell class to threshold; a class that is missing keeps the model's
     */
    public AnalysisResult above(Map<String, Double> thresholds) {
        float[] least = new float[cellClasses().size()];
        for (int i = 0; i < least.length; i++) {
            least[i] = thresholds.getOrDefault(cellClasses().get(i), model().getThresholds(i)).floatValue();
        }
        AnalysisResult out = new AnalysisResult(accepted);
        out.regions.addAll(regions);
        out.summary = summary;
        out.batches.add(CellFilter.of(batches, model()).above(least));
        return out;
    }

    /** The model's own thresholds, by cell class. */
    public Map<String, Double> thresholds() {
        return ModelInfo.of(model()).thresholds();
    }

    /** Writes run, model and cells (not the regions), to move thresholds some other day; the file appears whole. */
    public void save(Path path) throws IOException {
        Files.createDirectories(path.getParent());
        Path fresh = path.resolveSibling(path.getFileName() + ".new");
        try (OutputStream out = new GZIPOutputStream(Files.newOutputStream(fresh))) {
            accepted.writeDelimitedTo(out);
            summary.writeDelimitedTo(out);
            for (Cells batch : batches) {
                batch.writeDelimitedTo(out);
            }
        }
        Files.move(fresh, path, StandardCopyOption.REPLACE_EXISTING);
    }

    /** What {@link #save} wrote. */
    public static AnalysisResult read(Path path) throws IOException {
        try (InputStream in = new GZIPInputStream(Files.newInputStream(path))) {
            AnalysisResult out = new AnalysisResult(Accepted.parseDelimitedFrom(in));
            out.finish(Summary.parseDelimitedFrom(in));
            for (Cells batch = Cells.parseDelimitedFrom(in); batch != null; batch = Cells.parseDelimitedFrom(in)) {
                out.add(batch);
            }
            return out;
        }
    }

    // ---- The run and its model ------------------------------------------------------------------------------

    /** The run's id. */
    public String runId() {
        return accepted.getRunId();
    }

    /** The server's version. */
    public String serverVersion() {
        return accepted.getServerVersion();
    }

    /** What the model calls itself. */
    public String modelTitle() {
        return model().getTitle();
    }

    /** sha256 (hex) of the model. */
    public String modelDigest() {
        return model().getDigest();
    }

    /** Names of the region classes; {@link #regionClass} counts in them. */
    public List<String> regionClasses() {
        return List.copyOf(model().getRegionClassesList());
    }

    /** Names of the cell classes; {@link #cellClass} counts in them. */
    public List<String> cellClasses() {
        return List.copyOf(model().getCellClassesList());
    }

    /** Class to 0xRRGGBB. */
    public Map<String, Integer> colors() {
        return Map.copyOf(model().getColorsMap());
    }

    /** Diameters of the discs of each cell class, in um; empty where cells are points. */
    public double[] diametersUm() {
        return accepted.getCellsAsPoints()
                ? new double[0]
                : model().getCellDiametersUmList().stream().mapToDouble(Double::doubleValue).toArray();
    }

    /** Names of the numbers that each cell carries, as measurements. */
    public List<String> numbers() {
        if (model().getOtherNumbersCount() > 0) {
            return List.copyOf(model().getOtherNumbersList());
        }
        return cellClasses().stream().map(name -> "tissuebridge: score " + name).toList();
    }

    private Model model() {
        return accepted.getModel();
    }

    // ---- Cells ----------------------------------------------------------------------------------------------

    /** How many cells. */
    public int cellCount() {
        return batches.stream().mapToInt(batch -> batch.getClassIndex().size()).sum();
    }

    /** Centres x, y one after another, full-resolution px. */
    public double[] cellXy() {
        double[] out = new double[2 * cellCount()];
        int at = 0;
        for (Cells batch : batches) {
            ByteBuffer bytes = little(batch.getXy());
            while (bytes.hasRemaining()) {
                out[at++] = bytes.getDouble();
            }
        }
        return out;
    }

    /** Index into {@link #cellClasses} of each cell. */
    public int[] cellClass() {
        return indices(Cells::getClassIndex);
    }

    /** Index into {@link #regionClasses} of the region each cell lies in; 255 for none. */
    public int[] cellRegion() {
        return indices(Cells::getRegionIndex);
    }

    /** The cells' numbers, cell after cell; their names are {@link #numbers}. */
    public float[] cellNumbers() {
        float[] out = new float[cellCount() * numbers().size()];
        int at = 0;
        for (Cells batch : batches) {
            ByteBuffer bytes = little(batch.getScores());
            while (bytes.hasRemaining()) {
                out[at++] = bytes.getFloat();
            }
        }
        return out;
    }

    /** UUIDs as pairs of longs, the more significant half first. */
    public long[] cellIds() {
        return halves(batches.stream().map(Cells::getIds).toList());
    }

    /** Digests of the objects as they are to be written, in hex. */
    public String[] cellDigests() {
        return hex(batches.stream().map(Cells::getDigests).toList());
    }

    // ---- Regions --------------------------------------------------------------------------------------------

    /** How many regions. */
    public int regionCount() {
        return regions.size();
    }

    /** Index into {@link #regionClasses} of each region. */
    public int[] regionClass() {
        return regions.stream().mapToInt(Region::getClassIndex).toArray();
    }

    /** Outline of a region as WKB, in full-resolution px. */
    public byte[] regionWkb(int number) {
        return regions.get(number).getWkb().toByteArray();
    }

    /** UUIDs, as {@link #cellIds}. */
    public long[] regionIds() {
        return halves(regions.stream().map(Region::getId).toList());
    }

    /** Digests, as {@link #cellDigests}. */
    public String[] regionDigests() {
        return hex(regions.stream().map(Region::getDigest).toList());
    }

    // ---- Summary --------------------------------------------------------------------------------------------

    /** Why the result may be worse than the model's measures say. */
    public List<String> warnings() {
        return List.copyOf(summary.getWarningsList());
    }

    /** Class to number of cells. */
    public Map<String, Long> cells() {
        return Map.copyOf(summary.getCellsMap());
    }

    /** Class to number of regions. */
    public Map<String, Long> regions() {
        return Map.copyOf(summary.getRegionsMap());
    }

    /** Of a proposal: what decided it, in one line. */
    public String parametersInShort() {
        return summary.getParametersInShort();
    }

    private int[] indices(java.util.function.Function<Cells, ByteString> of) {
        int[] out = new int[cellCount()];
        int at = 0;
        for (Cells batch : batches) {
            for (byte index : of.apply(batch).toByteArray()) {
                out[at++] = Byte.toUnsignedInt(index);
            }
        }
        return out;
    }

    private static long[] halves(List<ByteString> parts) {
        long[] out = new long[parts.stream().mapToInt(ByteString::size).sum() / 8];
        int at = 0;
        for (ByteString part : parts) {
            // A UUID's bytes are in network order.
            ByteBuffer bytes = part.asReadOnlyByteBuffer();
            while (bytes.hasRemaining()) {
                out[at++] = bytes.getLong();
            }
        }
        return out;
    }

    private static String[] hex(List<ByteString> parts) {
        long[] all = halves(parts);
        String[] out = new String[all.length / 2];
        for (int i = 0; i < out.length; i++) {
            out[i] = String.format("%016x%016x", all[2 * i], all[2 * i + 1]);
        }
        return out;
    }

    private static ByteBuffer little(ByteString bytes) {
        return bytes.asReadOnlyByteBuffer().order(ByteOrder.LITTLE_ENDIAN);
    }
}
