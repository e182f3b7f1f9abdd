package io.github.tissuebridge.client;

import com.google.protobuf.ByteString;
import java.util.Arrays;
import java.util.Objects;
import tissuebridge.rpc.v1.Example;
import tissuebridge.rpc.v1.ImageIdentity;
import tissuebridge.rpc.v1.Level;
import tissuebridge.rpc.v1.MeasureStart;
import tissuebridge.rpc.v1.Options;
import tissuebridge.rpc.v1.Start;

/** What an image is, and what to do with it. Set what is known, then give it to {@link Client#analyze}. */
public final class AnalysisRequest {

    static final int PROTOCOL = 1;

    private final Start.Builder start = Start.newBuilder();
    private final ImageIdentity.Builder identity = ImageIdentity.newBuilder();
    private final Options.Builder options = Options.newBuilder();

    /**
     * @param name the image's file name: part of the objects' ids
     * @param width full-resolution width in px
     * @param height full-resolution height in px
     * @param pixelSizeUm size of a full-resolution pixel in um
     */
    public AnalysisRequest(String name, int width, int height, double pixelSizeUm) {
        identity.setName(Objects.requireNonNull(name)).setWidth(width).setHeight(height);
        // Python rounds half to even, and so does this.
        identity.setPixelSizeUm(new java.math.BigDecimal(pixelSizeUm)
                .setScale(4, java.math.RoundingMode.HALF_EVEN).doubleValue());
        start.setPixelSizeUm(pixelSizeUm);
    }

    /** Which image of its file, and how QuPath changes the file's pixels ("" for not at all). */
    public AnalysisRequest view(int series, String transform) {
        identity.setSeries(series).setTransform(transform);
        return this;
    }

    /** A level of the pyramid, full resolution first. */
    public AnalysisRequest level(int width, int height, double downsample) {
        start.addLevels(Level.newBuilder().setWidth(width).setHeight(height).setDownsample(downsample));
        return this;
    }

    /** The model's name at the server; without, the server's only one. */
    public AnalysisRequest model(String name) {
        start.setModel(name);
        return this;
    }

    /** Propose instead of asking a model: TOML with one table, such as "[cells]". */
    public AnalysisRequest proposal(String toml) {
        start.setProposal(toml);
        return this;
    }

    /** Only inside a polygon or multipolygon, as WKB in full-resolution px. */
    public AnalysisRequest region(byte[] wkb) {
        options.setRegionOfInterest(ByteString.copyFrom(Arrays.copyOf(wkb, wkb.length)));
        return this;
    }

    /** Id of the run, for the objects' metadata. */
    public AnalysisRequest runId(String id) {
        options.setRunId(id);
        return this;
    }

    /** Bring every candidate of a cell, so that {@link AnalysisResult#above} can move thresholds. */
    public AnalysisRequest unfiltered() {
        start.setUnfiltered(true);
        return this;
    }

    Example.Builder example() {
        return Example.newBuilder().setProtocol(PROTOCOL).setClientVersion(Client.VERSION).setImage(identity)
                .setPixelSizeUm(start.getPixelSizeUm()).addAllLevels(start.getLevelsList());
    }

    MeasureStart.Builder measure() {
        return MeasureStart.newBuilder().setProtocol(PROTOCOL).setClientVersion(Client.VERSION).setImage(identity)
                .setPixelSizeUm(start.getPixelSizeUm());
    }

    Start message() {
        return start.setProtocol(PROTOCOL).setClientVersion(Client.VERSION).setImage(identity).setOptions(options)
                .setIdentify(true).build();
    }
}
