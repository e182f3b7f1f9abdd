package io.github.tissuebridge.client;

import com.google.protobuf.ByteString;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.TlsChannelCredentials;
import io.grpc.okhttp.OkHttpChannelBuilder;
import io.grpc.stub.ClientCallStreamObserver;
import io.grpc.stub.ClientResponseObserver;
import io.grpc.stub.MetadataUtils;
import java.io.IOException;
import java.nio.file.Path;
import java.util.List;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;
import tissuebridge.rpc.v1.AnalysisGrpc;
import tissuebridge.rpc.v1.AnalyzeRequest;
import tissuebridge.rpc.v1.AnalyzeResponse;
import tissuebridge.rpc.v1.BlockRequest;
import tissuebridge.rpc.v1.ListModelsRequest;
import tissuebridge.rpc.v1.Model;
import tissuebridge.rpc.v1.ModelsGrpc;
import tissuebridge.rpc.v1.PixelBlock;

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

    /**
     * The names of the server's models.
     *
     * @throws TissuebridgeException nobody answers, or the token is wrong
     */
    public List<String> models() throws TissuebridgeException {
        try {
            return ModelsGrpc.newBlockingStub(channel)
                    .withInterceptors(MetadataUtils.newAttachHeadersInterceptor(token))
                    .withDeadlineAfter(SHORT_CALL_S, TimeUnit.SECONDS)
                    .list(ListModelsRequest.getDefaultInstance())
                    .getModelsList().stream().map(Model::getName).toList();
        } catch (StatusRuntimeException error) {
            throw meaning(error.getStatus(), error.getTrailers(), error);
        }
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
        long giveUp = System.nanoTime() + TimeUnit.SECONDS.toNanos(PATIENCE_S);
        for (long pauseMs = 200;; pauseMs = Math.min(2 * pauseMs, 10_000)) {
            try {
                return new Call(pixels, listener).run(request);
            } catch (TissuebridgeException error) {
                if (!error.kind().equals("Busy") || System.nanoTime() > giveUp) {
                    throw error;
                }
                Thread.sleep(ThreadLocalRandom.current().nextLong(pauseMs / 2, pauseMs));
            }
        }
    }

    @Override
    public void close() {
        channel.shutdownNow();
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
        if (kind == null) {
            return new TissuebridgeException("ServerUnreachable", "The server at " + address + " does not answer, or no "
                    + "longer (" + said + "). Start it again: tissuebridge serve --model DIR", cause);
        }
        return new TissuebridgeException(kind, said, cause);
    }

    /** One call. gRPC's threads put what the server says into a queue; the calling thread works it off. */
    private final class Call implements ClientResponseObserver<AnalyzeRequest, AnalyzeResponse> {

        private record Heard(AnalyzeResponse response, Throwable error) { }

        private final PixelReader pixels;
        private final Listener listener;
        private final BlockingQueue<Heard> heard = new LinkedBlockingQueue<>();
        private ClientCallStreamObserver<AnalyzeRequest> requests;
        private AnalysisResult result;

        Call(PixelReader pixels, Listener listener) {
            this.pixels = pixels;
            this.listener = listener;
        }

        AnalysisResult run(AnalysisRequest request) throws TissuebridgeException, InterruptedException {
            AnalysisGrpc.newStub(channel).withInterceptors(MetadataUtils.newAttachHeadersInterceptor(token)).analyze(this);
            try {
                requests.onNext(AnalyzeRequest.newBuilder().setStart(request.message()).build());
                while (true) {
                    Heard next = heard.take();
                    if (next.response() == null) {
                        throw ended(next.error());
                    }
                    if (handled(next.response())) {
                        requests.onCompleted();
                        return result;
                    }
                }
            } finally {
                requests.cancel("the client has ended the analysis", null);
            }
        }

        private boolean handled(AnalyzeResponse response) throws TissuebridgeException, InterruptedException {
            switch (response.getStepCase()) {
                case ACCEPTED -> result = new AnalysisResult(response.getAccepted());
                case BLOCK -> answer(response.getBlock());
                case PROGRESS -> listener.progress(response.getProgress().getDone(), response.getProgress().getTotal());
                case REGIONS -> result.add(response.getRegions());
                case CELLS -> result.add(response.getCells());
                case SUMMARY -> {
                    result.finish(response.getSummary());
                    return true;
                }
                default -> { }
            }
            return false;
        }

        private void answer(BlockRequest asked) throws TissuebridgeException, InterruptedException {
            byte[] block;
            try {
                block = pixels.read(asked.getLevel(), asked.getX(), asked.getY(), asked.getWidth(), asked.getHeight());
            } catch (InterruptedException error) {
                throw error;
            } catch (Exception error) {
                throw new TissuebridgeException("ImageError", "A block of the image cannot be read (level "
                        + asked.getLevel() + ", x " + asked.getX() + ", y " + asked.getY() + "): " + error, error);
            }
            requests.onNext(AnalyzeRequest.newBuilder().setBlock(PixelBlock.newBuilder().setId(asked.getId())
                    .setEncoding(PixelBlock.Encoding.ENCODING_RGB).setData(ByteString.copyFrom(block))).build());
        }

        private TissuebridgeException ended(Throwable error) {
            if (error == null) {
                return new TissuebridgeException("ServerUnreachable",
                        "The server at " + address + " ended the analysis without a result", null);
            }
            return meaning(Status.fromThrowable(error), Status.trailersFromThrowable(error), error);
        }

        @Override
        public void beforeStart(ClientCallStreamObserver<AnalyzeRequest> stream) {
            requests = stream;
        }

        @Override
        public void onNext(AnalyzeResponse response) {
            heard.add(new Heard(response, null));
        }

        @Override
        public void onError(Throwable error) {
            heard.add(new Heard(null, error));
        }

        @Override
        public void onCompleted() {
            heard.add(new Heard(null, null));
        }
    }
}
