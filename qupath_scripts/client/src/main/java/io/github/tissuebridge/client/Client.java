package io.github.tissuebridge.client;

import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.TlsChannelCredentials;
import io.grpc.okhttp.OkHttpChannelBuilder;
import io.grpc.stub.MetadataUtils;
import java.io.IOException;
import java.nio.file.Path;
import java.util.List;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;
import java.util.function.Supplier;
import tissuebridge.rpc.v1.AnalysisGrpc;
import tissuebridge.rpc.v1.ListModelsRequest;
import tissuebridge.rpc.v1.MeasureStart;
import tissuebridge.rpc.v1.ModelsGrpc;
import tissuebridge.rpc.v1.SpatialGrpc;
import tissuebridge.rpc.v1.StopTrainingRequest;
import tissuebridge.rpc.v1.TrainingGrpc;

/**
 * A connection to a tissuebridge server. One call analyses an image: the server asks for pixels, and the calling thread
 * reads and sends them. Interrupting that thread ends the call, and the server stops.
 */
public final class Client implements AutoCloseable {

    /** Of this client; the server's is told beside it. */
    public static final String VERSION = "0.1.0";

    private static final Metadata.Key<String> AUTHORIZATION =
            Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER);
    private static final Metadata.Key<String> ERROR =
            Metadata.Key.of("tissuebridge-error", Metadata.ASCII_STRING_MARSHALLER);
    private static final int LARGEST_MESSAGE = 32 << 20;
    private static final long SHORT_CALL_S = 20;
    private static final long PATIENCE_S = 600;

    private final String address;
    private final ManagedChannel channel;
    private final Metadata token = new Metadata();

    private Client(String address, String token, ManagedChannel channel) {
        this.address = address;
        this.channel = channel;
        this.token.put(AUTHORIZATION, "Bearer " + token);
    }

    /**
     * Connects to the server on this machine; where none runs, starts one with the Python that was installed for it.
     *
     * @throws TissuebridgeException none runs, and none can be started
     * @throws InterruptedException this thread was interrupted while the server started
     */
    public static Client connect() throws TissuebridgeException, InterruptedException {
        Discovery found = LocalServer.find();
        return connect(found.address(), found.token(), null);
    }

    /**
     * Connects to a named server: in the clear on this machine, else by TLS.
     *
     * @param address HOST:PORT
     * @param token what the server expects
     * @param ca PEM file with the certificate that signed the server's; null for the system's
     * @throws TissuebridgeException the address is none, or the certificate cannot be read
     */
    public static Client connect(String address, String token, Path ca) throws TissuebridgeException {
        try {
            boolean isLocal = address.matches("(localhost|127(\\.\\d+){3}|\\[::1\\]):\\d+");
            OkHttpChannelBuilder builder = isLocal && ca == null
                    ? OkHttpChannelBuilder.forTarget("dns:///" + address).usePlaintext()
                    : OkHttpChannelBuilder.forTarget("dns:///" + address, trusting(ca));
            return new Client(address, token, builder.maxInboundMessageSize(LARGEST_MESSAGE)
                    .keepAliveTime(30, TimeUnit.SECONDS).keepAliveTimeout(10, TimeUnit.SECONDS).build());
        } catch (IOException | IllegalArgumentException error) {
            throw new TissuebridgeException("UsageError", address + ": " + error.getMessage(), error);
        }
    }

    private static io.grpc.ChannelCredentials trusting(Path ca) throws IOException {
        TlsChannelCredentials.Builder builder = TlsChannelCredentials.newBuilder();
        return (ca == null ? builder : builder.trustManager(ca.toFile())).build();
    }

    /** HOST:PORT of the server. */
    public String address() {
        return address;
    }

    /**
     * The names of the server's models.
     *
     * @throws TissuebridgeException nobody answers, or the token is wrong
     */
    public List<String> models() throws TissuebridgeException {
        return described().stream().map(ModelInfo::name).toList();
    }

    /**
     * The server's models and what they find.
     *
     * @throws TissuebridgeException nobody answers, or the token is wrong
     */
    public List<ModelInfo> described() throws TissuebridgeException {
        return asked(() -> ModelsGrpc.newBlockingStub(channel)
                .withInterceptors(MetadataUtils.newAttachHeadersInterceptor(token))
                .withDeadlineAfter(SHORT_CALL_S, TimeUnit.SECONDS)
                .list(ListModelsRequest.getDefaultInstance())).getModelsList().stream().map(ModelInfo::of).toList();
    }

    /**
     * Has an image analysed, or regions and nuclei proposed; waits while the server is busy.
     *
     * @param pixels read in this thread
     * @param request what the image is and what to do
     * @param listener hears of the progress, in this thread
     * @return what was found
     * @throws TissuebridgeException what went wrong, with the cure
     * @throws InterruptedException this thread was interrupted: the server has stopped
     */
    public AnalysisResult analyze(PixelReader pixels, AnalysisRequest request, Listener listener)
            throws TissuebridgeException, InterruptedException {
        return patiently(() -> new AnalysisCall(this, pixels, listener).run(request));
    }

    @Override
    public void close() {
        channel.shutdownNow();
    }

    // ---- Training -------------------------------------------------------------------------------------------

    /**
     * Sends an image's annotated parts to learn from; the server asks for the pixels that it needs.
     *
     * @param pixels read in this thread
     * @param request what the image is
     * @param trainingSet the set's name at the server
     * @param first whether the set is to be emptied before
     * @param geojson the image's objects as a FeatureCollection (UTF-8)
     * @param listener hears of the progress, in this thread
     * @return what came of it
     * @throws TissuebridgeException what went wrong, with the cure
     * @throws InterruptedException this thread was interrupted, or the listener wants an end
     */
    public TrainingExamples addExamples(PixelReader pixels, AnalysisRequest request, String trainingSet, boolean first,
            byte[] geojson, Listener listener) throws TissuebridgeException, InterruptedException {
        return patiently(() -> new SendingCall(this, pixels, listener).run(request, trainingSet, first, geojson));
    }

    /**
     * Starts a training, and waits where another one is under way.
     *
     * @return its name, to watch and to stop it
     * @throws TissuebridgeException what is wrong with the order
     */
    public String startTraining(TrainingRequest request) throws TissuebridgeException {
        return asked(() -> training().start(request.message())).getTraining();
    }

    /**
     * Follows a training until it ends; the listener may end it early by an InterruptedException, which stops it.
     *
     * @return how it ended; the model can be used
     * @throws TissuebridgeException what it failed of
     * @throws InterruptedException this thread was interrupted, or the listener wanted an end: the training ends after its
     *     step, its model can be used, and the same order goes on
     */
    public TrainingResult watchTraining(String training, TrainingListener listener)
            throws TissuebridgeException, InterruptedException {
        return new WatchingCall(this, listener).run(training);
    }

    /** Ends a training after its step. */
    public void stopTraining(String training) throws TissuebridgeException {
        asked(() -> training().stop(StopTrainingRequest.newBuilder().setTraining(training).build()));
    }

    // ---- Spatial statistics ---------------------------------------------------------------------------------

    /**
     * Measures how the cells of an image lie to its tissue.
     *
     * @param image what the image is
     * @param geojson its objects as a FeatureCollection (UTF-8)
     * @param cells whose cells: "latest", "analysis" or "person"
     * @param regions whose regions, likewise
     * @param simulations of every test, at least 19; 0 for the server's default
     * @param seed the same seed gives the same numbers
     * @param listener hears of the progress, in this thread
     * @throws TissuebridgeException what went wrong, with the cure
     * @throws InterruptedException this thread was interrupted, or the listener wants an end
     */
    public SpatialResult measure(AnalysisRequest image, byte[] geojson, String cells, String regions, int simulations,
            long seed, Listener listener) throws TissuebridgeException, InterruptedException {
        MeasureStart.Builder start = image.measure().setCells(cells).setRegions(regions).setSeed(seed);
        if (simulations > 0) {
            start.setSimulations(simulations);
        }
        return patiently(() -> new SpatialCall(this, listener).run(start.build(), geojson));
    }

    // ---- For the calls --------------------------------------------------------------------------------------

    TrainingGrpc.TrainingBlockingStub training() {
        return TrainingGrpc.newBlockingStub(channel).withInterceptors(MetadataUtils.newAttachHeadersInterceptor(token))
                .withDeadlineAfter(SHORT_CALL_S, TimeUnit.SECONDS);
    }

    TrainingGrpc.TrainingStub trainingStream() {
        return TrainingGrpc.newStub(channel).withInterceptors(MetadataUtils.newAttachHeadersInterceptor(token));
    }

    SpatialGrpc.SpatialStub spatialStream() {
        return SpatialGrpc.newStub(channel).withInterceptors(MetadataUtils.newAttachHeadersInterceptor(token));
    }

    AnalysisGrpc.AnalysisStub analysisStream() {
        return AnalysisGrpc.newStub(channel).withInterceptors(MetadataUtils.newAttachHeadersInterceptor(token));
    }

    TissuebridgeException ended(Throwable error) {
        if (error == null) {
            return new TissuebridgeException("ServerUnreachable",
                    "The server at " + address + " ended the call without a result", null);
        }
        return meaning(Status.fromThrowable(error), Status.trailersFromThrowable(error), error);
    }

    /** A call that may be refused because the server is busy: it comes again. */
    private interface Patient<T> {
        T run() throws TissuebridgeException, InterruptedException;
    }

    private static <T> T patiently(Patient<T> call) throws TissuebridgeException, InterruptedException {
        long giveUp = System.nanoTime() + TimeUnit.SECONDS.toNanos(PATIENCE_S);
        for (long pauseMs = 200;; pauseMs = Math.min(2 * pauseMs, 10_000)) {
            try {
                return call.run();
            } catch (TissuebridgeException error) {
                if (!error.kind().equals("Busy") || System.nanoTime() > giveUp) {
                    throw error;
                }
                Thread.sleep(ThreadLocalRandom.current().nextLong(pauseMs / 2, pauseMs));
            }
        }
    }

    private <T> T asked(Supplier<T> call) throws TissuebridgeException {
        try {
            return call.get();
        } catch (StatusRuntimeException error) {
            throw meaning(error.getStatus(), error.getTrailers(), error);
        }
    }

    private TissuebridgeException meaning(Status status, Metadata trailers, Throwable cause) {
        String said = status.getDescription() == null ? status.getCode().toString() : status.getDescription();
        String kind = trailers == null ? null : trailers.get(ERROR);
        if (said.contains("Concurrent RPC limit exceeded")) {
            kind = "Busy";
        }
        if (kind == null && status.getCode() == Status.Code.UNAUTHENTICATED) {
            return new TissuebridgeException("UsageError", "The server at " + address + " does not know this token. "
                    + "Was it started anew? Run the script again.", cause);
        }
        if (kind == null && status.getCode() == Status.Code.UNIMPLEMENTED) {
            return new TissuebridgeException("UsageError", "The server at " + address + " is of another version, or does not "
                    + "offer this (" + said + "). Install the same version on both sides: tissuebridge install-qupath", cause);
        }
        if (kind == null) {
            return new TissuebridgeException("ServerUnreachable", "The server at " + address + " does not answer, or no "
                    + "longer (" + said + "). Start it again: tissuebridge serve --model DIR", cause);
        }
        return new TissuebridgeException(kind, said, cause);
    }
}
