package io.github.tissuebridge.client;

import com.google.protobuf.ByteString;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import tissuebridge.rpc.v1.MeasureRequest;
import tissuebridge.rpc.v1.MeasureResponse;
import tissuebridge.rpc.v1.MeasureStart;
import tissuebridge.rpc.v1.ObjectsPiece;

/** An image that is measured. */
final class SpatialCall extends ProgressCall<MeasureRequest, MeasureResponse, SpatialResult> {

    private final Client client;
    private final List<String> names = new ArrayList<>();
    private final Map<String, ByteString> tables = new LinkedHashMap<>();
    private ByteString ids = ByteString.EMPTY;
    private ByteString values = ByteString.EMPTY;
    private ByteString page = ByteString.EMPTY;

    SpatialCall(Client client, Listener listener) {
        super(client, listener);
        this.client = client;
    }

    SpatialResult run(MeasureStart start, byte[] geojson) throws TissuebridgeException, InterruptedException {
        client.spatialStream().measure(this);
        send(MeasureRequest.newBuilder().setStart(start).build());
        for (ObjectsPiece piece : pieces(geojson)) {
            send(MeasureRequest.newBuilder().setObjects(piece).build());
        }
        return workedOff();
    }

    @Override
    boolean handled(MeasureResponse response) throws InterruptedException {
        switch (response.getStepCase()) {
            case PROGRESS -> progressed(response.getProgress());
            case OBJECTS -> {
                if (names.isEmpty()) {
                    names.addAll(response.getObjects().getNamesList());
                }
                ids = ids.concat(response.getObjects().getIds());
                values = values.concat(response.getObjects().getValues());
            }
            case TABLE -> tables.merge(response.getTable().getName(), response.getTable().getCsv(), ByteString::concat);
            case PAGE -> page = page.concat(response.getPage());
            case DONE -> {
                return finished(result(response.getDone().getToldList()));
            }
            default -> { }
        }
        return false;
    }

    private SpatialResult result(List<String> told) {
        long[] halves = new long[ids.size() / 8];
        ids.asReadOnlyByteBuffer().asLongBuffer().get(halves);
        double[] numbers = new double[values.size() / 8];
        ByteBuffer little = ByteBuffer.wrap(values.toByteArray()).order(ByteOrder.LITTLE_ENDIAN);
        little.asDoubleBuffer().get(numbers);
        Map<String, String> csv = new LinkedHashMap<>();
        tables.forEach((name, bytes) -> csv.put(name, bytes.toString(StandardCharsets.UTF_8)));
        return new SpatialResult(List.copyOf(names), halves, numbers, page.toString(StandardCharsets.UTF_8), csv, List.copyOf(told));
    }
}
