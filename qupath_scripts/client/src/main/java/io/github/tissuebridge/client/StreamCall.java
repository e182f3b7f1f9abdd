package io.github.tissuebridge.client;

import com.google.protobuf.ByteString;
import io.grpc.stub.ClientCallStreamObserver;
import io.grpc.stub.ClientResponseObserver;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import tissuebridge.rpc.v1.BlockRequest;
import tissuebridge.rpc.v1.ObjectsPiece;
import tissuebridge.rpc.v1.PixelBlock;

/**
 * One call whose answers come as a stream. gRPC's threads put what the server says into a queue; the calling thread works it
 * off. However it ends, the call is cancelled behind it, so that the server stops.
 */
abstract class StreamCall<Q, R, T> implements ClientResponseObserver<Q, R> {

    private static final long TICK_MS = 500;
    private static final int PIECE = 1 << 20;

    private record Heard<R>(R response, Throwable error) { }

    private final Client client;
    private final BlockingQueue<Heard<R>> heard = new LinkedBlockingQueue<>();
    private ClientCallStreamObserver<Q> requests;
    private T result;

    StreamCall(Client client) {
        this.client = client;
    }

    /** Takes one thing that the server says; true when that was all. */
    abstract boolean handled(R response) throws TissuebridgeException, InterruptedException;

    /** Nothing was heard for a while. */
    abstract void waiting() throws InterruptedException;

    /** What ends the call well: the result. */
    final boolean finished(T value) {
        result = value;
        return true;
    }

    final void send(Q request) {
        requests.onNext(request);
    }

    /** Works off what the server says, until it has said all. */
    final T workedOff() throws TissuebridgeException, InterruptedException {
        try {
            while (true) {
                Heard<R> next = heard.poll(TICK_MS, TimeUnit.MILLISECONDS);
                if (next == null) {
                    waiting();
                } else if (next.response() == null) {
                    throw client.ended(next.error());
                } else if (handled(next.response())) {
                    return result;
                }
            }
        } finally {
            requests.cancel("the client has ended the call", null);
        }
    }

    /** An image's objects (GeoJSON) in pieces that a message takes. */
    static List<ObjectsPiece> pieces(byte[] geojson) {
        List<ObjectsPiece> out = new ArrayList<>();
        for (int at = 0; at == 0 || at < geojson.length; at += PIECE) {
            int length = Math.min(PIECE, geojson.length - at);
            out.add(ObjectsPiece.newBuilder().setGeojson(ByteString.copyFrom(geojson, at, length))
                    .setLast(at + PIECE >= geojson.length).build());
        }
        return out;
    }

    /** A block of the image, as the server asked for it. */
    static PixelBlock block(PixelReader pixels, BlockRequest asked) throws TissuebridgeException, InterruptedException {
        try {
            byte[] block = pixels.read(asked.getLevel(), asked.getX(), asked.getY(), asked.getWidth(), asked.getHeight());
            return PixelBlock.newBuilder().setId(asked.getId()).setEncoding(PixelBlock.Encoding.ENCODING_RGB)
                    .setData(ByteString.copyFrom(block)).build();
        } catch (InterruptedException error) {
            throw error;
        } catch (Exception error) {
            throw new TissuebridgeException("ImageError", "A block of the image cannot be read (level "
                    + asked.getLevel() + ", x " + asked.getX() + ", y " + asked.getY() + "): " + error, error);
        }
    }

    @Override
    public void beforeStart(ClientCallStreamObserver<Q> stream) {
        requests = stream;
    }

    @Override
    public void onNext(R response) {
        heard.add(new Heard<>(response, null));
    }

    @Override
    public void onError(Throwable error) {
        heard.add(new Heard<>(null, error));
    }

    @Override
    public void onCompleted() {
        heard.add(new Heard<>(null, null));
    }
}
